"""What 300 browser sessions leave behind: contexts, processes and memory, as they come and go.

Each session opens one page of the loopback site in a context of its own and is retired after it,
its context closed. ``python -m benchmarks.browser_contexts [--sessions N] [--plot FILE]``
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

from loopback import World
from loopback.suffixes import local_suffix_list
from shop.chromium import MISSING, find_chromium, launch_options

ROOT = Path(__file__).parent.parent
HANDLER = "scrapy_playwright.handler.ScrapyPlaywrightDownloadHandler"

SPIDER = """
    import json, os, time
    import scrapy

    class Contexts(scrapy.Spider):
        name = "contexts"

        async def start(self):
            for number in range({sessions}):
                yield scrapy.Request(f"http://shop.example/page/{{number}}", meta={{"playwright": True}})

        def parse(self, response):
            handlers = self.crawler.engine.downloader.handlers._handlers
            yield {{"time": time.time(), "contexts": len(handlers["http"].context_wrappers)}}
"""


def descendants(root: int) -> list[int]:
    """Return the ids of a process and of all that it started."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def proportional(pid: int) -> float:
    """Return a process's proportional set size in MB."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return (
        next((int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:"), 0) / 1024
    )


def run(sessions: int, chromium: str) -> dict[str, Any]:
    """Crawl, and look every second at what runs."""
    samples: list[dict[str, float]] = []
    with World(max(sessions + 20, 40), proxy={"in_turn": True}, tls=False, keep=False) as world:
        settings = {
            "ADDONS": {"scrapy_session_filter.Addon": 500},
            "SESSION_FILTER_PROXY": world.gateway,
            "SESSION_FILTER_STORE": "memory:",
            "SESSION_FILTER_MAX_USES": 1,
            "DOWNLOAD_HANDLERS": {"http": HANDLER, "https": HANDLER},
            "PLAYWRIGHT_LAUNCH_OPTIONS": launch_options(chromium),
            "PLAYWRIGHT_MAX_CONTEXTS": 8,
            "CONCURRENT_REQUESTS": 4,
            "LOG_LEVEL": "INFO",
            "TELNETCONSOLE_ENABLED": False,
        }
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            (here / "spider.py").write_text(textwrap.dedent(SPIDER.format(sessions=sessions)))
            (here / "project.py").write_text("".join(f"{k} = {v!r}\n" for k, v in settings.items()))
            (here / "scrapy.cfg").write_text("[settings]\ndefault = project\n")
            path = os.pathsep.join((folder, str(ROOT)))
            env = {**os.environ, **local_suffix_list(here / "suffixes"), "PYTHONPATH": path}
            command = [
                sys.executable,
                "-m",
                "scrapy",
                "runspider",
                "spider.py",
                "-O",
                "items.jsonl",
            ]
            with (here / "log").open("wb") as log:
                process = subprocess.Popen(command, cwd=here, env=env, stderr=log, stdout=log)
                start = time.time()
                while process.poll() is None:
                    pids = descendants(process.pid)
                    samples.append(
                        {
                            "seconds": time.time() - start,
                            "pages": world.site.visit_count,
                            "processes": len(pids),
                            "mb": round(sum(map(proportional, pids)), 1),
                        }
                    )
                    time.sleep(1)
            items = [json.loads(line) for line in (here / "items.jsonl").read_text().splitlines()]
            said = (here / "log").read_text(errors="replace")
        counts = {
            name: int(
                said.partition(f"'session_filter/contexts/{name}': ")[2].partition(",")[0] or 0
            )
            for name in ("opened", "closed")
        }
        return {
            "pages": len(items),
            "direct": world.site.direct.total(),
            "most_contexts": max(item["contexts"] for item in items),
            **counts,
            "samples": samples,
        }


def draw(samples: list[dict[str, float]], path: Path) -> None:
    """Plot memory and processes against pages."""
    import matplotlib as mpl  # noqa: PLC0415 - only for the plot

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(8, 4.5))
    pages = [sample["pages"] for sample in samples]
    axes.plot(pages, [sample["mb"] for sample in samples], color="crimson", label="MB (PSS)")
    axes.set_xlabel("sessions opened and closed")
    axes.set_ylabel("MB, crawl and browser together")
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    other.plot(pages, [sample["processes"] for sample in samples], alpha=0.6, label="processes")
    other.set_ylabel("processes")
    other.set_ylim(bottom=0)
    axes.legend(loc="lower left")
    other.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def mean(samples: list[dict[str, float]], key: str) -> float:
    """Return the mean of a figure over some samples."""
    return sum(sample[key] for sample in samples) / len(samples)


def main() -> None:
    """Run it, print it, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--plot", type=Path, help="write a picture to this file")
    options = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        sys.exit(MISSING)
    result = run(options.sessions, chromium)
    samples = result.pop("samples")
    print(", ".join(f"{name}: {value}" for name, value in result.items()))
    full = [s for s in samples if 0.1 * options.sessions <= s["pages"] < options.sessions]
    parts = [
        part for i in range(4) if (part := full[i * len(full) // 4 : (i + 1) * len(full) // 4])
    ]
    for number, part in enumerate(parts, 1):
        print(
            f"quarter {number}: {mean(part, 'mb'):.0f} MB, {mean(part, 'processes'):.1f} processes"
        )
    if options.plot:
        draw(samples, options.plot)


if __name__ == "__main__":
    main()
