"""The spider's own say: report_block from a callback, and the hook session_filter_blocked."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.crawls.scenery import PLAIN_QUEUE, assert_clean, stat, through, urls

if TYPE_CHECKING:
    from loopback import World

    from tests.world.crawls import Crawler

EMPTY = {"like": "ok", "body": "<html><title>Nothing found</title></html>"}

REPORTS = """
import scrapy
from scrapy_session_filter import report_block

class Reports(scrapy.Spider):
    name = "reports"

    async def start(self):
        for n in range(8):
            yield scrapy.Request(f"http://shop.example/page/{n}", priority=n)

    def parse(self, response):
        if response.css("title::text").get() == "Nothing found":
            again = report_block(response, reason="Empty Result!")
            if again is not None:
                yield again
            yield {"blocked": response.url, "more": again is not None,
                   "twice": report_block(response) is not None}
        else:
            yield {"url": response.url, "dont_filter": response.request.dont_filter,
                   "priority": response.request.priority}
"""


def test_report_block_from_a_callback(world: World, crawl: Crawler) -> None:
    """The session pays once, the page goes out again elsewhere, to the end of its budget."""
    world.site.on("/page/1", EMPTY, times=2)
    world.site.on("/page/2", EMPTY)
    result = crawl(REPORTS, through(world, RETRY_TIMES=3))
    assert_clean(world, result)
    done = {item["url"]: item for item in result.items if "url" in item}
    assert set(done) == set(urls(world, 8)) - {world.url("/page/2")}
    assert not any(item["dont_filter"] for item in done.values())
    assert {url[-1]: item["priority"] for url, item in done.items()}["1"] == 1
    asked = Counter(visit.path for visit in world.site.visits)
    assert (asked["/page/1"], asked["/page/2"]) == (3, 4)
    exits = [visit.exit for visit in world.site.visits if visit.path == "/page/1"]
    sessions = {p.session for p in world.proxy.passages if p.target.endswith("/page/1")}
    assert len(exits) == len(sessions) == 3
    blocked = [item for item in result.items if "blocked" in item]
    assert [item["more"] for item in blocked if item["blocked"].endswith("2")] == [
        *(True, True, True),
        False,
    ]
    assert stat(result, "verdicts/BLOCKED") == 6
    assert stat(result, "blocked/unnamed/empty-result") == 6
    assert 1 <= stat(result, "sessions/retired/blocked") <= 6


@pytest.mark.parametrize("coroutine", ["", "async "])
@pytest.mark.parametrize("cache", [False, True])
def test_the_spider_hook_decides(world: World, crawl: Crawler, coroutine: str, cache: bool) -> None:
    """True is a block, False none, None leaves it to the detectors; compressed pages are decoded."""
    world.site.on("/page/1", {**EMPTY, "encoding": "gzip"}, times=2)
    world.site.on("/page/2", "forbidden")
    world.site.on("/page/3", "forbidden", times=1)
    world.proxy.spoil(world.exits[:3], "error-page", times=1)
    spider = f"""
    import scrapy

    class Hooked(scrapy.Spider):
        name = "hooked"

        async def start(self):
            for n in range(6):
                yield scrapy.Request(f"http://shop.example/page/{{n}}")

        def parse(self, response):
            yield {{"url": response.url, "status": response.status}}

        {coroutine}def session_filter_blocked(self, response):
            if response.url.endswith("/2"):
                return False
            return True if b"Nothing found" in response.body else None
    """
    settings = through(world, HTTPERROR_ALLOW_ALL=True, HTTPCACHE_ENABLED=cache)
    result = crawl(spider, settings)
    assert_clean(world, result)
    found = {item["url"][-1]: item["status"] for item in result.items}
    assert found == {"0": 200, "1": 200, "2": 403, "3": 200, "4": 200, "5": 200}
    asked = Counter(visit.path for visit in world.site.visits)
    assert (asked["/page/1"], asked["/page/2"], asked["/page/3"]) == (3, 1, 2)
    assert stat(result, "blocked/unnamed/spider") == 2
    assert stat(result, "hook_errors") == 0
    assert result.stats["watch/verdicts"] == 0
    assert result.stats["httpcompression/response_count"] == 2
    if cache:
        again = crawl(spider, settings)
        assert {item["url"][-1]: item["status"] for item in again.items} == found
        assert again.stats["httpcache/hit"] == 6


def test_a_broken_hook_is_not_heard(world: World, crawl: Crawler) -> None:
    """A hook that raises, returns nonsense or is slow is said once, and never blocks anything."""
    spider = """
    import time

    import scrapy

    class Broken(scrapy.Spider):
        name = "broken"

        async def start(self):
            for n in range(8):
                yield scrapy.Request(f"http://shop.example/page/{n}")

        def parse(self, response):
            yield {"url": response.url}

        def session_filter_blocked(self, response):
            if response.url.endswith(("1", "3", "5")):
                raise KeyError("mistake")
            if response.url.endswith(("2", "4")):
                time.sleep(0.25)
            return "yes"
    """
    result = crawl(spider, through(world))
    assert result.exit_code == 0
    assert len(result.items) == 8
    assert stat(result, "hook_errors") == 8
    assert stat(result, "verdicts/BLOCKED") == 0
    assert result.log.count("session_filter_blocked raised KeyError") == 1
    assert result.log.count("session_filter_blocked returned a str") == 1
    assert result.log.count("session_filter_blocked took ") == 1
    assert result.stats["watch/leases"] == 0


def test_a_failure_now_and_then_does_not_end_saving(world: World, crawl: Crawler) -> None:
    """A policy and a stats collector that raise once cost one save; the next has it all."""
    (crawl.folder / "mine.py").write_text(
        """
from scrapy.statscollectors import MemoryStatsCollector
from scrapy_session_filter.policies.simple import RoundRobinPolicy

class Fails(RoundRobinPolicy):
    failed = False

    def dump(self):
        if not Fails.failed:
            Fails.failed = True
            raise KeyError("mistake")
        return {}

class Away(MemoryStatsCollector):
    away = True

    def inc_value(self, key, *args, **kwargs):
        if Away.away and key.startswith("session_filter/"):
            Away.away = False
            raise ConnectionError("no answer")
        super().inc_value(key, *args, **kwargs)
"""
    )
    world.site.on("/page/*", {"like": "ok", "delay": 0.1})
    file = crawl.folder / "saved.sqlite"
    settings = through(world, POLICY="mine.Fails", STORE=f"sqlite:{file}", SAVE_INTERVAL=1,
                       STATS_CLASS="mine.Away", CONCURRENT_REQUESTS=4)  # fmt: skip
    running = crawl.start(urls(world, 300), settings)
    while len(running.items()) < 200 and running.process.poll() is None:
        time.sleep(0.05)
    running.kill()
    store = SQLiteStore(file)
    store.open()
    assert sum(row["uses"] for row in store.rows()) > 50
    store.close()
    log = running.log()
    assert log.count("Fails failed at a save") == log.count("flush failed") == 1


@pytest.mark.parametrize("policy", ["random", "adaptive"])
def test_dry_run_only_counts(world: World, crawl: Crawler, policy: str) -> None:
    """In DRY_RUN sessions are used and verdicts counted; nothing rests, retires or is held back."""
    world.site.on("/page/0", "forbidden")
    world.site.on("/page/1", "captcha-gzip")
    world.site.on("/page/2", "too-many")
    world.proxy.spoil(world.exits, "error-page", times=1)
    pages = urls(world, 20)
    settings = through(world, DRY_RUN=True, POLICY=policy, HTTPERROR_ALLOW_ALL=True)
    # Scrapy's own; one page may meet the error page of each exit
    settings["RETRY_TIMES"] = len(world.exits)
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert len(result.pages) == 20
    assert result.pages[pages[0]]["status"] == 403
    assert result.pages[pages[1]]["verdict"]["kind"] == "BLOCKED"
    assert stat(result, "verdicts/BLOCKED") == 2
    throttled = [visit for visit in world.site.visits if visit.path == "/page/2"]
    assert stat(result, "verdicts/THROTTLED") == len(throttled) > 0
    for name in ("retries", "gave_up", "sessions/rested", "sessions/retired"):
        assert stat(result, name) == 0, name


def test_a_reported_block_is_free_in_dry_run(world: World, crawl: Crawler) -> None:
    """report_block in DRY_RUN is counted, costs nothing, and gives no other attempt."""
    world.site.on("/page/1", EMPTY)
    result = crawl(REPORTS, through(world, DRY_RUN=True))
    assert_clean(world, result)
    assert [item["more"] for item in result.items if "blocked" in item] == [False]
    assert stat(result, "verdicts/BLOCKED") == 1
    assert stat(result, "sessions/retired") == stat(result, "retries") == 0


def test_a_block_that_is_reported_too_is_paid_once(world: World, crawl: Crawler) -> None:
    """A callback that asked for the answer to a block gets another attempt, and no second verdict."""
    world.site.on("/page/1", "forbidden", times=1)
    spider = REPORTS.replace(
        'if response.css("title::text").get() == "Nothing found":', "if response.status == 403:"
    ).replace('name = "reports"', 'name = "reports"\n    handle_httpstatus_list = [403]')
    result = crawl(spider, through(world, POLICY="random", MAX_ERRORS=3))
    assert_clean(world, result)
    assert {item["url"] for item in result.items if "url" in item} == set(urls(world, 8))
    assert stat(result, "verdicts/BLOCKED") == 1
    assert stat(result, "verdicts/OK") == 8
    assert stat(result, "retries") >= 1


@pytest.mark.parametrize("mistake", ["{}['shop']", "None", "'x' * 300"])
@pytest.mark.parametrize("queue", [{}, PLAIN_QUEUE])
def test_a_site_function_that_fails_costs_its_request(
    world: World, crawl: Crawler, mistake: str, queue: dict[str, str]
) -> None:
    """The request's errback hears of it, and the crawl goes on."""
    (crawl.folder / "shops.py").write_text(
        f"def site(request):\n    return {mistake} if request.url.endswith('/3') else 'shop'\n"
    )
    pages = urls(world, 8)
    result = crawl(pages, through(world, SITE="shops.site", **queue))
    assert result.exit_code == 0
    assert set(result.pages) == {*pages} - {pages[3]}
    error = "KeyError" if "shop" in mistake else "ConfigurationError"
    assert result.failures[pages[3]]["error"] == error
    assert stat(result, "hook_errors") == 1
    assert result.stats["watch/leases"] == 0
