"""What the plugin costs: process CPU per request, with it and without, in one run.

``python -m benchmarks.overhead [--pairs 20] [--pages 600] [--https]``

Plain Scrapy and Scrapy with the plugin fetch the same pages through the same proxy, in turns, each in
a process of its own; the site and the proxy run in a third. Printed is the median ratio of the pairs
with a 95 % interval (bootstrap). For https, plain Scrapy uses as many tunnels as the plugin has
sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scrapy
from scrapy import signals
from scrapy.crawler import AsyncCrawlerRunner
from scrapy.settings import Settings
from scrapy.utils.reactor import install_reactor
from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from typing_extensions import Self

SESSIONS = 32
LATENCY, JITTER = 0.05, 0.2
"""Seconds an answer takes, and up to how many more. Where all come at once, chance decides how many
are processed in one turn of the event loop, and so how often Python collects garbage: up to 40 % of
a crawl's CPU, with the plugin or without."""


class Pages(scrapy.Spider):
    """Fetches one page again and again through ``proxies`` in turn (none: the plugin's)."""

    name = "pages"

    def __init__(self, url: str, pages: int, proxies: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.url, self.pages, self.proxies = url, pages, proxies

    async def start(self) -> AsyncIterator[scrapy.Request]:
        for number in range(self.pages):
            meta = {"proxy": self.proxies[number % len(self.proxies)]} if self.proxies else {}
            yield scrapy.Request(f"{self.url}?{number}", meta=meta)

    def parse(self, response: scrapy.http.Response) -> None:
        """Do nothing: the pages' own work is not what is measured."""


@dataclass(frozen=True)
class Side:
    """One side; ``store`` is empty for plain Scrapy. They differ in the add-on alone."""

    url: str
    pages: int
    gateway: str
    tunnels: int
    store: str

    @property
    def proxies(self) -> list[str]:
        """The proxies of plain Scrapy's requests."""
        if self.store:
            return []
        return [self.gateway.replace("{session}", f"plain{n}") for n in range(self.tunnels)]

    @property
    def settings(self) -> Settings:
        """The crawl's settings."""
        values: dict[str, Any] = {
            "CONCURRENT_REQUESTS": 32,
            "CONCURRENT_REQUESTS_PER_DOMAIN": 32,
            "DOWNLOAD_DELAY": 0,
            "LOG_LEVEL": "ERROR",
            "TELNETCONSOLE_ENABLED": False,
            "ROBOTSTXT_OBEY": False,
        }
        if self.store:
            values |= {
                "ADDONS": {"scrapy_session_filter.Addon": 500},
                "SESSION_FILTER_PROXY": self.gateway,
                "SESSION_FILTER_MAX_SESSIONS": SESSIONS,
                "SESSION_FILTER_STORE": f"sqlite:{self.store}",
            }
        return Settings(values)

    async def crawl(self) -> float:
        """Crawl once; return the seconds of CPU between opening and closing the spider, per page."""
        runner = AsyncCrawlerRunner(self.settings)
        crawler = runner.create_crawler(Pages)
        times: list[float] = []

        def note(**_: Any) -> None:
            times.append(time.process_time())

        crawler.signals.connect(note, signal=signals.spider_opened)
        crawler.signals.connect(note, signal=signals.spider_closed)
        gc.collect()
        await runner.crawl(crawler, url=self.url, pages=self.pages, proxies=self.proxies)
        assert crawler.stats is not None
        got = crawler.stats.get_value("response_received_count")
        if got != self.pages:
            msg = f"{got} of {self.pages} pages; plugin: {bool(self.store)}"
            raise RuntimeError(msg)
        return (times[1] - times[0]) / self.pages


class Process:
    """A process that crawls one side when asked to."""

    def __init__(self, side: Side) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.overhead", "--side", json.dumps(asdict(side))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def crawl(self) -> float:
        """Return the seconds of CPU that a page took in another crawl."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("crawl\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    rng = random.Random(1)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


def measure(pairs: int, pages: int, scheme: str) -> None:
    """Run the pairs and print a line for each page size."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "example_project"))
    world_of = import_module("loopback.process").RemoteWorld
    for kilobytes in (1, 60):
        world = world_of(
            exits=SESSIONS,
            page_size=kilobytes * 1000,
            latency=LATENCY,
            jitter=JITTER,
            cookies=False,
            keep=False,
        )
        url, tunnels = f"{scheme}://shop.example/page/1", SESSIONS if scheme == "https" else 1
        with tempfile.TemporaryDirectory() as folder:
            sides = [
                Side(url, pages, world.gateway, tunnels, store)
                for store in ("", f"{folder}/sessions.sqlite")
            ]
            with Process(sides[0]) as plain, Process(sides[1]) as plugin:
                ratios, plain_times = [], []
                for pair in range(-1, pairs):  # the first warms up code, connections and sessions
                    turns = (plain, plugin) if pair % 2 else (plugin, plain)
                    times = {process: process.crawl() for process in turns}
                    if pair >= 0:
                        ratios.append(times[plugin] / times[plain])
                        plain_times.append(times[plain])
        low, high = interval(ratios)
        print(
            f"{scheme} {kilobytes:>3} kB: with plugin / plain = {statistics.median(ratios):.3f} "
            f"[{low:.3f}, {high:.3f}] over {len(ratios)} pairs of {pages} pages; "
            f"plain {1e3 * statistics.median(plain_times):.2f} ms CPU a request"
        )
        world.close()


def serve(side: Side) -> None:
    """Crawl once for each line that comes in, and print what a page took."""
    install_reactor("twisted.internet.asyncioreactor.AsyncioSelectorReactor")
    logging.disable(logging.WARNING)
    reactor: Any = import_module("twisted.internet.reactor")  # only now: it installs itself

    async def crawls() -> None:
        for _ in iter(sys.stdin.readline, ""):
            print(await side.crawl(), flush=True)

    async def as_deferred() -> None:
        await Deferred.fromFuture(asyncio.ensure_future(crawls()))

    done: Any = Deferred.fromCoroutine(as_deferred())
    done.addBoth(lambda _: reactor.stop())
    reactor.run()


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--pages", type=int, default=600)
    parser.add_argument("--https", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        serve(Side(**json.loads(arguments.side)))
    else:
        measure(arguments.pairs, arguments.pages, "https" if arguments.https else "http")


if __name__ == "__main__":
    main()
