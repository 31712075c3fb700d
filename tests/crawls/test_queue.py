"""The request queue: sites take turns, priorities hold, and pins do not block the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crawls.scenery import assert_clean, stat, through

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler


@pytest.mark.parametrize(
    "wrapped", ["scrapy.pqueues.ScrapyPriorityQueue", "scrapy.pqueues.DownloaderAwarePriorityQueue"]
)
def test_sites_take_turns_and_priorities_hold(world: World, crawl: Crawler, wrapped: str) -> None:
    """Within a site the order is that of the wrapped queue; no site waits for another to end."""
    world.site.on("*", {"like": "ok", "delay": 0.01})
    requests = [
        {"url": world.url(f"/page/{n}", host), "priority": n}
        for host in ("one.com", "two.com")
        for n in range(15)
    ]
    spider = f"""
    import scrapy

    class Ordered(scrapy.Spider):
        name = "ordered"

        async def start(self):
            yield scrapy.Request("http://first.com/page/0", self.first)

        def first(self, response):
            for fields in {requests!r}:
                yield scrapy.Request(**fields)

        def parse(self, response):
            yield {{"url": response.url}}
    """
    settings = through(world, CONCURRENT_REQUESTS=2, SCHEDULER_PRIORITY_QUEUE=wrapped)
    result = crawl(spider, settings)
    assert_clean(world, result)
    assert len(result.items) == 30
    visits = world.site.visits[1:]
    for host in ("one.com", "two.com"):
        order = [int(v.path.rpartition("/")[2]) for v in visits if v.host == host]
        assert order == sorted(order, reverse=True)
    assert 5 <= len([v for v in visits[:16] if v.host == "one.com"]) <= 11


def test_pins_of_a_resting_session_do_not_hold_up_others(world: World, crawl: Crawler) -> None:
    """Many requests pinned to a session at rest leave the places to the rest of the crawl."""
    world.site.on("/rest", {"like": "too-many", "headers": {"Retry-After": "600"}})
    world.site.on("/page/*", {"like": "ok", "delay": 0.1})
    spider = """
    import time

    import scrapy

    class Pinned(scrapy.Spider):
        name = "pinned"

        async def start(self):
            self.left = 100
            self.began = time.monotonic()
            for n in range(100):
                yield scrapy.Request(f"http://shop.com/page/a{n}", self.alone)

        def alone(self, response):
            self.left -= 1
            if not self.left:
                yield {"alone": time.monotonic() - self.began}
                pin = {"session_filter_session": response.meta["session_filter_session"]}
                yield scrapy.Request("http://shop.com/rest", errback=self.rests, cb_kwargs={"pin": pin},
                                     meta={**pin, "dont_retry": True})

        def rests(self, failure):
            pin = failure.request.cb_kwargs["pin"]
            for n in range(100):
                yield scrapy.Request(f"http://shop.com/page/p{n}", meta=pin, priority=1)
            self.left = 100
            self.began = time.monotonic()
            for n in range(100):
                yield scrapy.Request(f"http://other.com/page/b{n}", self.beside)

        def beside(self, response):
            self.left -= 1
            if not self.left:
                yield {"beside": time.monotonic() - self.began}
                raise scrapy.exceptions.CloseSpider("enough")
    """
    settings = through(world, CONCURRENT_REQUESTS_PER_DOMAIN=8, CONCURRENCY=1, LOG_LEVEL="INFO")
    result = crawl(spider, settings)
    assert result.reason == "enough", result.log[-3000:]
    times = {name: value for item in result.items for name, value in item.items()}
    assert stat(result, "sessions/rested") == 1
    assert times["alone"] / times["beside"] > 0.8, times
    assert result.stats["watch/leases"] == 0


def test_unloaded_sites_come_back(world: World, crawl: Crawler) -> None:
    """With more sites than MAX_SITES the longest unused pool is saved, and loaded when it is asked."""
    hosts = [f"site{n}.com" for n in range(6)]
    pages = [world.url(f"/page/{n}", host) for n in range(3) for host in hosts]
    settings = through(
        world, STORE="sqlite:", MAX_SITES=2, POLICY="until-blocked", CONCURRENT_REQUESTS=1,
        SCHEDULER_PRIORITY_QUEUE="scrapy.pqueues.ScrapyPriorityQueue",
    )  # fmt: skip
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert stat(result, "sessions/created") == len(hosts)
    sessions: dict[str, set[str]] = {}
    for url, item in result.pages.items():
        sessions.setdefault(url.split("/")[2], set()).add(item["session"])
    assert all(len(seen) == 1 for seen in sessions.values())


def test_no_site_is_unloaded_in_use(make_world: Callable[..., World], crawl: Crawler) -> None:
    """More sites at once than MAX_SITES: a request has its pool to the last hop of its chain."""
    world = make_world(4, latency=0.1)
    world.site.on("/old/*", lambda visit: {
        "status": 302, "headers": {"Location": visit.path.replace("old", "page")}, "body": "",
    })  # fmt: skip
    pages = [world.url(f"/{kind}/{n}", f"site{n % 4}.example") for n in range(40)
             for kind in ("page", "old")]  # fmt: skip
    settings = through(world, PROXIES=world.proxies(), MAX_SITES=1, CONCURRENCY=1, POLICY="random",
                       DUPEFILTER_CLASS="scrapy.dupefilters.BaseDupeFilter")  # fmt: skip
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert len(result.items) == 80
    assert stat(result, "sessions/created") <= 16
    assert stat(result, "redirects_restarted") == 0
    used = {(item["url"].split("/")[2], item["session"]) for item in result.items}
    assert len(used) <= 16
