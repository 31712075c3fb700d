"""Requests without a session wait: bounded, in nobody's way, and none is lost."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.crawls.beside import crawl_beside
from tests.crawls.scenery import PLAIN_QUEUE, assert_clean, resting, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler, RunningCrawl


def until(running: RunningCrawl, condition: Callable[[], bool]) -> None:
    """Wait for something to happen to a crawl; its log is the message if it ends before."""
    deadline = time.monotonic() + 40
    while not condition():
        assert running.process.poll() is None, running.log()[-3000:]
        assert time.monotonic() < deadline, running.log()[-3000:]
        time.sleep(0.02)


def test_a_resting_pool_is_waited_for(world: World, crawl: Crawler) -> None:
    """With every session at rest requests go back and wait; all are fetched when it is over."""
    world.site.on("/page/*", resting(2), times=2)
    pages = urls(world, 30)
    result = crawl(
        pages,
        through(world, PROXIES=world.proxies(world.exits[:2]), WAIT_TIMEOUT=0.3,
                CONCURRENT_REQUESTS=8),
    )  # fmt: skip
    assert_clean(world, result)
    assert Counter(item["url"] for item in result.items) == Counter(pages)
    assert stat(result, "sessions/rested") == 2
    assert stat(result, "waits") > 0
    # one waits in the middleware, at 0.3 s a time; the queue keeps the others
    assert stat(result, "given_back") < 20
    assert result.stats["scheduler/enqueued"] < 30 + 2 + 20


def test_limits_are_waited_for_without_the_queue(world: World, crawl: Crawler) -> None:
    """Under the user's own scheduler queue requests wait as well, without spinning."""
    world.site.on("/page/*", resting(1), times=1)
    pages = urls(world, 20)
    by_hand = {
        "ADDONS": {},
        "DOWNLOADER_MIDDLEWARES": {
            "scrapy_session_filter.SessionFilterMiddleware": 650,
            "scrapy_session_filter.ProxyGate": 995,
        },
        "EXTENSIONS": {"scrapy_session_filter.SessionFilterExtension": 500},
        **PLAIN_QUEUE,
    }
    settings = through(world, PROXIES=world.proxies(world.exits[:1]), CONCURRENCY=1, **by_hand)
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert Counter(item["url"] for item in result.items) == Counter(pages)
    assert result.stats["scheduler/dequeued"] < 400


@pytest.mark.parametrize("queue", [{}, PLAIN_QUEUE])
def test_sigint_with_waiters_closes_promptly(
    world: World, crawl: Crawler, queue: dict[str, str]
) -> None:
    """Ctrl-C while all wait closes at once; with JOBDIR the next run fetches all that was left."""
    # late, or both sessions might rest before the ten pages have come
    rest = {**resting(600), "delay": 1.0}
    world.site.on("/page/*", rest)
    world.site.on("/page/?", "ok")
    pages = [*urls(world, 10), *urls(world, 40, "/page/x{}")]
    settings = through(
        world, PROXIES=world.proxies(world.exits[:2]), JOBDIR="job", WAIT_TIMEOUT=30, **queue
    )
    running = crawl.start(pages, settings)
    until(running, lambda: len(running.items()) == 10 and "THROTTLED" in running.log())
    time.sleep(0.5)
    pressed = time.monotonic()
    running.interrupt()
    first = running.wait()
    assert time.monotonic() - pressed < 10  # far less than the 30 s that a waiter waits
    assert first.reason == "shutdown"
    assert first.stats["watch/in_flight"] == 0
    world.site.on("*", "ok")
    again = through(world, PROXIES=world.proxies(world.exits[2:4]), JOBDIR="job", **queue)
    second = crawl(pages, again)
    assert_clean(world, second)
    got = Counter(item["url"] for item in first.items + second.items)
    assert got == Counter(pages)


def test_a_resting_site_does_not_hold_up_another(world: World, crawl: Crawler) -> None:
    """Beside a site whose sessions all rest, a second keeps at least 90 % of its speed."""
    world.site.on("*", {"like": "ok", "delay": 0.12})
    world.site.on("*", resting(600), host="resting.example")
    settings = through(
        world,
        PROXIES=world.proxies(world.exits[:4]),
        STORE="memory:",
        CONCURRENT_REQUESTS_PER_DOMAIN=8,
        LOG_LEVEL="INFO",
        HTTPERROR_ALLOW_ALL=True,
    )
    ratios, result = crawl_beside(world, crawl, "resting.example", settings, tries=4)
    assert max(ratios) > 0.9, ratios
    assert stat(result, "verdicts/THROTTLED") >= 4
    assert result.stats["watch/leases"] == 0


@pytest.mark.parametrize("queue", [{}, PLAIN_QUEUE])
def test_an_exhausted_site_ends_the_crawl(
    world: World, crawl: Crawler, queue: dict[str, str]
) -> None:
    """No page in EXHAUSTED_TIMEOUT: closed with that reason, and JOBDIR keeps the requests."""
    world.site.on("*", resting(600))
    pages = urls(world, 12)
    settings = {"JOBDIR": "job", "SAVE_INTERVAL": 0.3, "WAIT_TIMEOUT": 0.5, **queue}
    result = crawl(
        pages,
        through(world, PROXIES=world.proxies(world.exits[:2]), EXHAUSTED_TIMEOUT=2, **settings),
    )
    assert_clean(world, result)
    assert result.reason == "session_filter_exhausted"
    assert result.items == []
    assert stat(result, "sites_given_up") == 1
    world.site.on("*", "ok")
    result = crawl([], through(world, **settings))
    assert set(result.pages) == set(pages)


def test_one_exhausted_site_does_not_end_the_others(world: World, crawl: Crawler) -> None:
    """While another site gives pages the spider goes on; the given-up site's requests wait."""
    world.site.on("*", {"like": "ok", "delay": 0.3})
    world.site.on("*", resting(600), host="resting.example")
    pages = urls(world, 60)
    others = urls(world, 5, host="resting.example")
    result = crawl(
        [*others, *pages],
        through(world, PROXIES=world.proxies(world.exits[:2]), EXHAUSTED_TIMEOUT=1.5,
                SAVE_INTERVAL=0.3, WAIT_TIMEOUT=0.5, CONCURRENT_REQUESTS=4, JOBDIR="job"),
    )  # fmt: skip
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert result.reason == "session_filter_exhausted"
    assert stat(result, "sites_given_up") == 2 or stat(result, "sites_given_up") == 1


def test_a_page_that_failed_everywhere_still_ends(world: World, crawl: Crawler) -> None:
    """With one proxy only, a page with a site error is retried on it, and the crawl ends."""
    world.site.on("/page/1", "error", times=1)
    pages = urls(world, 5)
    result = crawl(
        pages, through(world, PROXIES=world.proxies(world.exits[:1]), WAIT_TIMEOUT=0.5), timeout=30
    )
    assert_clean(world, result)
    assert set(result.pages) == set(pages)


@pytest.mark.parametrize("handled", [False, True])
def test_pages_that_are_wanted_as_they_are_exhaust_no_site(
    world: World, crawl: Crawler, handled: bool
) -> None:
    """In DRY_RUN, and where the spider asked for the status, each page reaches its callback."""
    world.site.on("*", {"like": "forbidden", "delay": 0.1})
    pages = urls(world, 40)
    settings = through(
        world, EXHAUSTED_TIMEOUT=1, SAVE_INTERVAL=0.2, CONCURRENT_REQUESTS=2,
        HTTPERROR_ALLOW_ALL=True, DRY_RUN=not handled,
    )  # fmt: skip
    meta = {"handle_httpstatus_list": [403]} if handled else {}
    result = crawl([{"url": page, "meta": meta} for page in pages], settings)
    assert_clean(world, result)
    assert result.reason == "finished"
    assert len(result.pages) == len(pages)
    assert stat(result, "sites_given_up") == 0
