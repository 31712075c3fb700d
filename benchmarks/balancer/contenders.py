"""Who takes part, and how each is run: in a process of its own, for a limited time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.balancer.layouts import Layout
    from benchmarks.balancer.site import Site

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RETRIES = 10
"""Retries a page may cost, for everybody: the plugin's default."""

ROTATING, CRAWLEE = "scrapy scrapy-rotating-proxies==0.6.2", "crawlee==1.11.0"


@dataclass(frozen=True)
class Contender:
    """One way to crawl: a script, the packages it needs in an environment of its own, settings."""

    name: str
    script: str = "fetch_scrapy.py"
    packages: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    proxies: str | None = None  # the setting that takes the list


def _ours(policy: str) -> Contender:
    settings = {
        "ADDONS": {"scrapy_session_filter.Addon": 500},
        "SESSION_FILTER_POLICY": policy,
        "SESSION_FILTER_STORE": "memory:",
        "SESSION_FILTER_RETRY_TIMES": RETRIES,
    }
    return Contender(policy, settings=settings, proxies="SESSION_FILTER_PROXIES")


_RETRY = {
    "RETRY_TIMES": RETRIES,
    "RETRY_HTTP_CODES": [500, 502, 503, 504, 522, 524, 408, 429, 403],
}

CONTENDERS = {
    contender.name: contender
    for contender in (
        _ours("adaptive"),
        _ours("classic"),
        Contender(
            "rotating-proxies",
            packages=ROTATING,
            settings={
                "DOWNLOADER_MIDDLEWARES": {
                    "rotating_proxies.middlewares.RotatingProxyMiddleware": 610,
                    "rotating_proxies.middlewares.BanDetectionMiddleware": 620,
                },
                "ROTATING_PROXY_PAGE_RETRY_TIMES": RETRIES,
            },
            proxies="ROTATING_PROXY_LIST",
        ),
        Contender("crawlee", script="fetch_crawlee.py", packages=CRAWLEE),
        Contender(
            "random",
            settings={"DOWNLOADER_MIDDLEWARES": {"__main__.RandomProxy": 740}, **_RETRY},
            proxies="RANDOM_PROXIES",
        ),
    )
}


@dataclass
class Result:
    """What came of one crawl; ``times`` are the seconds at which pages came first."""

    contender: str
    layout: str
    pages: int
    times: list[float]
    requests: int
    seconds: float
    ended: bool  #: by itself; false: it was stopped at the end of its time

    @property
    def fetched(self) -> int:
        return len(self.times)

    @property
    def per_page(self) -> float:
        """Requests that came to the site, per page fetched."""
        return self.requests / max(1, self.fetched)

    def told_seconds(self) -> str:
        """Say how long it took, and whether it was stopped."""
        return f"{self.seconds:.0f}" if self.ended else f"stopped at {self.seconds:.0f}"


def run(contender: Contender, layout: Layout, site: Site, folder: Path, longest: float) -> Result:
    """Crawl the site for at most ``longest`` seconds; its log is in ``folder``."""
    record, task = folder / f"{contender.name}.pages", folder / f"{contender.name}.json"
    task.write_text(json.dumps(_task(contender, layout, site, record)), encoding="utf-8")
    record.write_text("", encoding="utf-8")
    command = [str(_python(contender, folder)), str(HERE / contender.script), str(task)]
    before = site.requests()
    with (folder / f"{contender.name}.log").open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            process.wait(longest)
            ended = True
        except subprocess.TimeoutExpired:
            ended = False
        seconds = time.monotonic() - began
        requests = site.requests() - before
        process.kill()
        process.wait()
    first: dict[str, float] = {}
    for line in record.read_text(encoding="utf-8").splitlines():
        number, _, at = line.partition(" ")
        first.setdefault(number, float(at) - began)
    if not first:
        print(
            (folder / f"{contender.name}.log").read_text(errors="replace")[-2000:], file=sys.stderr
        )
    return Result(
        contender.name, layout.name, layout.pages, sorted(first.values()), requests, seconds, ended
    )


def _task(contender: Contender, layout: Layout, site: Site, record: Path) -> dict[str, Any]:
    settings = {
        "CONCURRENT_REQUESTS": layout.concurrency,
        "CONCURRENT_REQUESTS_PER_DOMAIN": layout.concurrency,
        "DOWNLOAD_DELAY": 0,
        "DOWNLOAD_TIMEOUT": 30,
        "LOG_LEVEL": "INFO",
        "ROBOTSTXT_OBEY": False,
        "TELNETCONSOLE_ENABLED": False,
        **contender.settings,
    }
    if contender.proxies:
        settings[contender.proxies] = site.proxies
    return {
        "url": site.url,
        "pages": layout.pages,
        "proxies": site.proxies,
        "concurrency": layout.concurrency,
        "retries": RETRIES,
        "record": str(record),
        "settings": settings,
    }


def _environment() -> dict[str, str]:
    """Return the environment without proxies of its own, and with this project importable."""
    kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")])}


def _python(contender: Contender, folder: Path) -> Path:
    """Return the interpreter of a contender, after installing its packages if need be."""
    if contender.packages is None:
        return Path(sys.executable)
    home = Path(os.environ.get("BENCHMARK_PEERS", folder.parent / "peers")) / contender.name
    if not (home / "ready").exists():
        print(f"installing {contender.packages} into {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "--quiet", "install"]
        subprocess.run([*pip, *contender.packages.split()], check=True, stderr=subprocess.DEVNULL)
        (home / "ready").touch()
    return home / "bin" / "python"
