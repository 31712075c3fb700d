"""Real crawls in processes of their own: a reactor cannot be started twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopback.suffixes import local_suffix_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parent.parent.parent

_QUIET = {
    "TELNETCONSOLE_ENABLED": False,
    "LOG_LEVEL": "DEBUG",
    "ROBOTSTXT_OBEY": False,
    "DOWNLOAD_DELAY": 0,
    "CONCURRENT_REQUESTS": 16,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
    "DOWNLOAD_TIMEOUT": 15,
}


@dataclass
class Crawl:
    """What came of a crawl; ``stats`` and ``reason`` are empty if it never came to its end."""

    exit_code: int
    log: str
    items: list[dict[str, Any]]
    stats: dict[str, Any]
    reason: str
    folder: Path

    @property
    def pages(self) -> dict[str, dict[str, Any]]:
        """Items of pages that reached the callback, by the URL asked for."""
        return {item["url"]: item for item in self.items if "status" in item}

    @property
    def failures(self) -> dict[str, dict[str, Any]]:
        """Items of pages that reached the errback, by the URL asked for."""
        return {item["url"]: item for item in self.items if "error" in item}


class RunningCrawl:
    """A crawl under way."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder

    def items(self) -> list[dict[str, Any]]:
        """Return the items so far, without one that is being written."""
        path = self.folder / "items.jsonl"
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    def log(self) -> str:
        """Return the log so far."""
        return (self.folder / "crawl.log").read_text(encoding="utf-8", errors="replace")

    def kill(self) -> Crawl:
        """Kill it as a power cut would (SIGKILL)."""
        self.process.kill()
        return self.wait()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self.process.terminate()

    def wait(self, timeout: float = 60) -> Crawl:
        """Wait for its end; one that takes longer is killed, and fails the test with its log."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.wait()
            msg = f"the crawl took more than {timeout} s; the end of its log:\n{self.log()[-5000:]}"
            raise AssertionError(msg) from error
        path = self.folder / "end.json"
        end = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return Crawl(
            exit_code=code,
            log=self.log(),
            items=self.items(),
            stats=end.get("stats", {}),
            reason=end.get("reason", ""),
            folder=self.folder,
        )


class Crawler:
    """Runs ``scrapy runspider`` in a project folder of its own, one crawl after another.

    The folder stays for the whole test, so a second crawl finds what the first one saved.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        self._running: list[RunningCrawl] = []

    def __call__(
        self,
        spider: str | Sequence[Any],
        settings: Mapping[str, Any] | None = None,
        *,
        timeout: float = 60,
        **start: Any,
    ) -> Crawl:
        """Run a crawl to its end; arguments as for `start`."""
        return self.start(spider, settings, **start).wait(timeout)

    def start(
        self,
        spider: str | Sequence[Any],
        settings: Mapping[str, Any] | None = None,
        *,
        args: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> RunningCrawl:
        """Start a crawl of a spider given as source text, or of a list of requests (`PagesSpider`).

        ``settings`` are plain values (anything whose ``repr`` is its source), ``args`` spider
        arguments, ``env`` more environment variables.
        """
        for name in ("end.json", "items.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        arguments = dict(args or {})
        if isinstance(spider, str):
            path = self.folder / "spider.py"
            path.write_text(textwrap.dedent(spider), encoding="utf-8")
        else:
            path = Path(__file__).with_name("pages_spider.py")
            arguments["requests"] = json.dumps(list(spider))
        self._write_project({**_QUIET, **self.settings, **(settings or {})})
        command = [sys.executable, "-m", "scrapy", "runspider", str(path)]
        for name, value in arguments.items():
            command += ["-a", f"{name}={value}"]
        with (self.folder / "crawl.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment(self.folder, env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        running = RunningCrawl(process, self.folder)
        self._running.append(running)
        return running

    def close(self) -> None:
        """End whatever still runs."""
        for running in self._running:
            if running.process.poll() is None:
                running.process.kill()
            running.process.wait()

    def _write_project(self, settings: dict[str, Any]) -> None:
        extensions = dict(settings.pop("EXTENSIONS", {}))
        extensions["tests.world.record_crawl.RecordCrawl"] = 0
        settings["EXTENSIONS"] = extensions
        source = "".join(f"{name} = {value!r}\n" for name, value in settings.items())
        (self.folder / "crawl_settings.py").write_text(source, encoding="utf-8")
        (self.folder / "scrapy.cfg").write_text("[settings]\ndefault = crawl_settings\n")


def environment(folder: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment without proxies, and with the code under test importable."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    kept.update(local_suffix_list(ROOT / ".scrapy" / "suffix-list"))
    path = [str(folder), str(ROOT), str(ROOT / "example_project")]
    if "PYTHONPATH" in kept:
        path.append(kept["PYTHONPATH"])
    return {**kept, "PYTHONPATH": os.pathsep.join(path), **(more or {})}
