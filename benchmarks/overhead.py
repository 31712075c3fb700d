"""What the plugin costs: process CPU per request, with it and without, in one run.

``python -m benchmarks.overhead [--pairs 20] [--pages 600] [--https]``

Plain Scrapy and Scrapy with the plugin fetch the same pages through the same proxy, in turns, in one
process; the site and the proxy run in another. Printed is the median ratio of the pairs with a 95 %
interval (bootstrap). For https, plain Scrapy uses as many tunnels as the plugin has sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import random
import statistics
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scrapy
from scrapy import signals
from scrapy.crawler import AsyncCrawlerRunner
from scrapy.settings import Settings
from scrapy.utils.reactor import install_reactor
from twisted.internet.defer import Deferred

sys.path.insert(0, str(Path(__file__).parent.parent / "example_project"))

from loopback.process import RemoteWorld

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

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


def settings(world: RemoteWorld, store: str, *, plugin: bool) -> Settings:
    """Return the settings of one side; they differ in the add-on alone."""
    values: dict[str, Any] = {
        "CONCURRENT_REQUESTS": 32,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 32,
        "DOWNLOAD_DELAY": 0,
        "LOG_LEVEL": "ERROR",
        "TELNETCONSOLE_ENABLED": False,
        "ROBOTSTXT_OBEY": False,
    }
    if plugin:
        values |= {
            "ADDONS": {"scrapy_session_filter.Addon": 500},
            "SESSION_FILTER_PROXY": world.gateway,
            "SESSION_FILTER_MAX_SESSIONS": SESSIONS,
            "SESSION_FILTER_STORE": f"sqlite:{store}",
        }
    return Settings(values)


async def crawl(
    world: RemoteWorld, store: str, url: str, pages: int, *, plugin: bool, tunnels: int = 1
) -> float:
    """Run one crawl; return the seconds of CPU between opening and closing the spider, per page."""
    proxies = (
        [] if plugin else [world.gateway.replace("{session}", f"plain{n}") for n in range(tunnels)]
    )
    runner = AsyncCrawlerRunner(settings(world, store, plugin=plugin))
    crawler = runner.create_crawler(Pages)
    times: list[float] = []

    def note(**_: Any) -> None:
        times.append(time.process_time())

    crawler.signals.connect(note, signal=signals.spider_opened)
    crawler.signals.connect(note, signal=signals.spider_closed)
    gc.collect()
    await runner.crawl(crawler, url=url, pages=pages, proxies=proxies)
    assert crawler.stats is not None
    got = crawler.stats.get_value("response_received_count")
    if got != pages:
        msg = f"{got} of {pages} pages; plugin: {plugin}"
        raise RuntimeError(msg)
    return (times[1] - times[0]) / pages


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    rng = random.Random(1)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


async def measure(arguments: argparse.Namespace) -> None:
    """Run the pairs and print a line for each page size."""
    for kilobytes in (1, 60):
        world = RemoteWorld(
            exits=SESSIONS,
            page_size=kilobytes * 1000,
            latency=LATENCY,
            jitter=JITTER,
            cookies=False,
            keep=False,
        )
        with tempfile.TemporaryDirectory() as folder:
            store = f"{folder}/sessions.sqlite"
            scheme, tunnels = ("https", SESSIONS) if arguments.https else ("http", 1)
            url = f"{scheme}://shop.example/page/1"

            async def one(*, plugin: bool, **where: Any) -> float:
                return await crawl(pages=arguments.pages, plugin=plugin, **where)

            where = {"world": world, "store": store, "url": url, "tunnels": tunnels}
            for plugin in (False, True):
                await one(plugin=plugin, **where)  # warm up code, connections and sessions
            ratios, plain_times = [], []
            for pair in range(arguments.pairs):
                first = bool(pair % 2)
                times = {plugin: await one(plugin=plugin, **where) for plugin in (first, not first)}
                ratios.append(times[True] / times[False])
                plain_times.append(times[False])
            low, high = interval(ratios)
            print(
                f"{scheme} {kilobytes:>3} kB: with plugin / plain = {statistics.median(ratios):.3f} "
                f"[{low:.3f}, {high:.3f}] over {len(ratios)} pairs of {arguments.pages} pages; "
                f"plain {1e3 * statistics.median(plain_times):.2f} ms CPU a request"
            )
        world.close()


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--pages", type=int, default=600)
    parser.add_argument("--https", action="store_true")
    install_reactor("twisted.internet.asyncioreactor.AsyncioSelectorReactor")
    logging.disable(logging.WARNING)
    reactor: Any = import_module("twisted.internet.reactor")  # only now: it installs itself
    done: Any = Deferred.fromCoroutine(_as_deferred(measure(parser.parse_args())))
    done.addBoth(lambda _: reactor.stop())
    reactor.run()


async def _as_deferred(work: Coroutine[Any, Any, None]) -> None:
    await Deferred.fromFuture(asyncio.ensure_future(work))


if __name__ == "__main__":
    main()
