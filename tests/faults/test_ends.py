"""Every way a crawl ends short of a kill: nothing that was counted or learnt is lost."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.crawls.scenery import cookie, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import World

    from scrapy_session_filter.session import Row
    from tests.world.crawls import Crawler, RunningCrawl

LATER = 900.0
"""A save interval that no crawl here lives to see: what is saved is saved at the end."""


def until(running: RunningCrawl, condition: Callable[[], bool]) -> None:
    """Wait for something to happen to a crawl; its log is the message if it ends before."""
    deadline = time.monotonic() + 40
    while not condition():
        assert running.process.poll() is None, running.log()[-3000:]
        assert time.monotonic() < deadline, running.log()[-3000:]
        time.sleep(0.01)


def saved_rows(crawl: Crawler) -> list[Row]:
    """Return the sessions that the crawl has left."""
    store = SQLiteStore(crawl.folder / "sessions.sqlite")
    store.open()
    rows = list(store.rows())
    store.close()
    return rows


CALLBACK_ERROR = """
import scrapy

class Broken(scrapy.Spider):
    name = "broken"

    async def start(self):
        for url in self.settings["URLS"]:
            yield scrapy.Request(url)

    def parse(self, response):
        yield {"url": response.url, "status": response.status}
        if response.url.endswith("/50"):
            raise scrapy.exceptions.CloseSpider("enough")
        if response.url.endswith("9"):
            1 / 0
"""


@pytest.mark.parametrize("how", ["SIGINT", "SIGINT twice", "SIGTERM"])
def test_signals_lose_no_count(world: World, crawl: Crawler, how: str) -> None:
    """After Ctrl-C once or twice and SIGTERM all counts, cookies and headers are in the store."""
    world.site.on("/page/*", {"like": "ok", "delay": 0.1})
    world.site.on("/page/??", {"like": "ok", "delay": 0.3})
    settings = through(
        world, STORE="sqlite:sessions.sqlite", POLICY="round-robin", SAVE_INTERVAL=LATER,
        CONCURRENT_REQUESTS=8, PROXIES=world.proxies(),
    )  # fmt: skip
    running = crawl.start(urls(world, 2000), settings)
    until(running, lambda: len(running.items()) >= 60)
    pressed = time.monotonic()
    if how == "SIGTERM":
        running.terminate()
    else:
        running.interrupt()
    if how == "SIGINT twice":
        time.sleep(0.1)  # pages are under way for 0.3 s
        running.interrupt()
    result = running.wait()
    took = time.monotonic() - pressed
    rows = saved_rows(crawl)
    delivered, visited = len(result.items), world.site.visit_count
    assert delivered <= sum(row["oks"] for row in rows) <= visited
    assert delivered <= sum(row["uses"] for row in rows) <= visited + 8
    agents = {visit.headers["user-agent"] for visit in world.site.visits}
    assert {row["headers"]["User-Agent"] for row in rows} <= agents
    values = {cookie(visit) for visit in world.site.visits} - {""}
    kept = {saved["value"] for row in rows for saved in row["cookies"] or ()}
    assert values <= kept
    assert took < 10
    if how == "SIGINT twice":
        assert result.reason == ""  # Scrapy itself never came to its end
    else:
        assert result.reason == "shutdown"
        assert sum(row["oks"] for row in rows) == delivered == visited


def test_errors_in_callbacks_lose_no_count(world: World, crawl: Crawler) -> None:
    """Callbacks that fail, and one that closes the spider, change nothing of what is saved."""
    settings = through(
        world, STORE="sqlite:sessions.sqlite", POLICY="round-robin", SAVE_INTERVAL=LATER,
        URLS=urls(world, 200), MAX_SESSIONS=10,
    )  # fmt: skip
    result = crawl(CALLBACK_ERROR, settings)
    assert result.reason == "enough"
    assert "ZeroDivisionError" in result.log
    rows = saved_rows(crawl)
    assert sum(row["oks"] for row in rows) == world.site.visit_count == stat(result, "requests")
    assert result.stats["watch/in_flight"] == 0


def test_terminated_and_then_killed(world: World, crawl: Crawler) -> None:
    """Stopped as containers are, SIGKILL soon after SIGTERM, verdicts and sessions are there."""
    world.site.on("/page/*", {"like": "ok", "delay": 0.05})
    world.site.on("/page/1??", {"like": "ok", "delay": 20})  # the downloads that do not end in time
    world.site.on("/page/*", "forbidden", exits=world.exits[:3])
    settings = through(
        world, STORE="sqlite:sessions.sqlite", POLICY="round-robin", SAVE_INTERVAL=0.5,
        PROXIES=world.proxies(), FIRST_TIMEOUT=0,
    )  # fmt: skip
    running = crawl.start(urls(world, 116), settings)
    until(running, lambda: len(running.items()) == 100)
    running.terminate()
    time.sleep(1.0)
    assert running.process.poll() is None
    running.kill()
    rows = saved_rows(crawl)
    assert {visit.exit for visit in world.site.visits if visit.block} == set(world.exits[:3])
    assert len(rows) == 13
    assert sum(row["oks"] for row in rows) >= 80


def test_a_hard_exit_is_like_a_kill(world: World, crawl: Crawler) -> None:
    """os._exit in a callback runs nothing of ours; what was saved before is found again."""
    spider = """
    import os
    import time
    import scrapy

    class Exits(scrapy.Spider):
        name = "exits"

        async def start(self):
            for url in self.settings["URLS"]:
                yield scrapy.Request(url)

        def parse(self, response):
            yield {"url": response.url}
            if response.url.endswith("slow"):
                os._exit(7)
    """
    world.site.on("/page/slow", {"like": "ok", "delay": 1.5})
    settings = through(
        world, STORE="sqlite:sessions.sqlite", POLICY="round-robin", SAVE_INTERVAL=0.3,
        PROXIES=world.proxies(), URLS=[world.url("/page/slow"), *urls(world, 50)],
    )  # fmt: skip
    result = crawl(spider, settings)
    assert result.exit_code == 7
    rows = saved_rows(crawl)
    assert len(rows) == 16
    assert 25 <= sum(row["oks"] for row in rows) <= 50


FAILING = """
import asyncio, gc, sys, threading, time
from pathlib import Path

from scrapy.crawler import AsyncCrawlerRunner
from scrapy.spiders import Spider
from scrapy.utils.reactor import install_reactor

from scrapy_session_filter.stores.owners import Owners

install_reactor("twisted.internet.asyncioreactor.AsyncioSelectorReactor")
file = Path(sys.argv[1])
settings = {
    "ADDONS": {"scrapy_session_filter.Addon": 500},
    "SESSION_FILTER_PROXY": "direct",
    "SESSION_FILTER_STORE": f"sqlite:{file}",
    "ITEM_PIPELINES": {"no.such.Pipeline": 1},
}


class Empty(Spider):
    name = "empty"


async def main():
    for _ in range(2):
        try:
            await AsyncCrawlerRunner(settings).crawl(Empty)
        except ModuleNotFoundError as error:
            print(error.name)


asyncio.get_event_loop().run_until_complete(main())
deadline = time.monotonic() + 5
while time.monotonic() < deadline and (Owners(file).others() or threading.active_count() > 1):
    gc.collect()
    time.sleep(0.05)
print(len(Owners(file).others()), [thread.name for thread in threading.enumerate()])
"""


def test_a_crawl_that_fails_at_its_start_leaves_nothing(tmp_path: Path) -> None:
    """In a process that goes on its store is closed and its thread ends, without spider_closed."""
    command = [sys.executable, "-c", FAILING, str(tmp_path / "sessions.sqlite")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.splitlines() == ["no", "no", "0 ['MainThread']"], result.stderr
