"""Requests with no scheduler behind them: robots.txt, media files, own downloads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.crawls.scenery import assert_clean, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler


def test_robots_txt_charges_nobody(world: World, crawl: Crawler) -> None:
    """A refused robots.txt is the site's rule: no session pays, and it is not asked again."""
    world.site.on("/robots.txt", "forbidden")
    pages = urls(world, 6)
    result = crawl(pages, through(world, ROBOTSTXT_OBEY=True))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert [visit.path for visit in world.site.visits].count("/robots.txt") == 1
    assert stat(result, "sessions/retired") == stat(result, "retries") == 0


@pytest.mark.parametrize("https", [False, True])
def test_robots_txt_behind_a_dead_proxy_is_asked_again(
    make_world: Callable[..., World], crawl: Crawler, https: bool
) -> None:
    """A robots.txt lost to a proxy would allow everything: it is fetched through another one."""
    world = make_world(12, proxy={"in_turn": True})
    world.proxy.spoil(world.exits[:3], "407")
    world.site.on(
        "/robots.txt",
        {"headers": {"Content-Type": "text/plain"}, "body": "User-agent: *\nDisallow: /page/3\n"},
    )
    pages = urls(world, 6, https=https)
    # one at a time: of requests that wait for one robots.txt Scrapy 2.19 lets all but the first pass
    settings = through(world, ROBOTSTXT_OBEY=True, CONCURRENT_REQUESTS=1)
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert set(result.pages) == {page for page in pages if page[-1] != "3"}
    assert "/page/3" not in {visit.path for visit in world.site.visits}
    assert stat(result, "verdicts/PROXY_ERROR") >= 3


MEDIA = """
import scrapy

class Media(scrapy.Spider):
    name = "media"

    async def start(self):
        yield scrapy.Request("http://shop.example/page/1")

    def parse(self, response):
        files = [f"http://files.example/page/f{n}" for n in range(6)]
        yield {"name": "item", "file_urls": files}
"""


def test_media_files_go_through_sessions(make_world: Callable[..., World], crawl: Crawler) -> None:
    """FilesPipeline downloads go through sessions, wait for one, and are retried after a block."""
    world = make_world(40, proxy={"in_turn": True})
    world.site.on("/page/f*", "forbidden", times=2)
    world.site.on("/page/f*", "captcha-redirect", times=1)
    world.site.on("/page/f*", "too-many", times=1)
    settings = through(
        world,
        ITEM_PIPELINES={"scrapy.pipelines.files.FilesPipeline": 1},
        FILES_STORE="files",
        CONCURRENCY=1,
        MAX_SESSIONS=2,
        WAIT_TIMEOUT=0.3,
        POLICY="round-robin",
    )
    result = crawl(MEDIA, settings)
    assert_clean(world, result)
    [item] = result.items
    assert len(item["files"]) == 6
    assert len(list((crawl.folder / "files" / "full").iterdir())) == 6
    assert {visit.host for visit in world.site.visits} == {"shop.example", "files.example"}
    assert stat(result, "retries") == 4


SHELF = """
import scrapy

class Shelf(scrapy.Spider):
    name = "shelf"
    start_urls = [f"http://shop.example/page/{n}" for n in range(9)]

    def parse(self, response):
        files = [f"http://files.example{response.url[-7:]}/{n}" for n in range(4)]
        yield {"url": response.url, "file_urls": files}
"""


def test_items_are_finished_before_the_spider_closes(world: World, crawl: Crawler) -> None:
    """Their media files wait for a session while others are served: no scheduler keeps them."""
    world.site.on("/page/*", {"like": "ok", "delay": 0.1})
    settings = through(
        world,
        PROXIES=world.proxies(world.exits[:3]),
        ITEM_PIPELINES={"scrapy.pipelines.files.FilesPipeline": 1},
        FILES_STORE="files",
        CONCURRENCY=1,
        WAIT_TIMEOUT=0.5,
        CLOSESPIDER_PAGECOUNT=7,
    )
    result = crawl(SHELF, settings)
    assert_clean(world, result)
    assert result.reason == "closespider_pagecount"
    assert len(result.items) >= 1
    assert {len(item["files"]) for item in result.items} == {4}
    assert stat(result, "unserved") == 0


INLINE = """
import scrapy
from scrapy.http.request import NO_CALLBACK

class Inline(scrapy.Spider):
    name = "inline"

    async def start(self):
        yield scrapy.Request("http://shop.example/page/1")

    async def parse(self, response):
        for url in self.settings["URLS"]:
            request = scrapy.Request(url)
            if self.settings["MARKED"]:
                request = request.replace(callback=NO_CALLBACK)
            try:
                got = await self.crawler.engine.download_async(request)
                yield {"url": got.url, "session": got.meta["session_filter_session"]}
            except Exception as error:
                yield {"failed": type(error).__name__}
"""


@pytest.mark.parametrize("marked", [False, True])
def test_own_downloads(world: World, crawl: Crawler, marked: bool) -> None:
    """engine.download_async goes through sessions, is retried after blocks, and given up in place."""
    world.site.on("/page/2", "forbidden", times=2)
    world.site.on("/page/3", "captcha")
    world.site.on("/page/4", {"like": "too-many"}, times=1)
    pages = urls(world, 5)[2:]
    settings = through(world, URLS=pages, MARKED=marked, RETRY_TIMES=3, WAIT_TIMEOUT=0.3)
    result = crawl(INLINE, settings)
    assert_clean(world, result)
    assert [item.get("url", item.get("failed")) for item in result.items] == [
        *(pages[0], "IgnoredGiveUp", pages[2])
    ]


@pytest.mark.parametrize("marked", [False, True])
def test_waiting_downloads_do_not_keep_the_spider(
    world: World, crawl: Crawler, marked: bool
) -> None:
    """A download that waits for a session ends when the spider closes, and the spider closes."""
    world.site.on("/page/*", {"like": "too-many", "headers": {"Retry-After": "600"}})
    world.site.on("/page/1", "ok")
    settings = through(
        world, URLS=urls(world, 5)[2:], MARKED=marked, WAIT_TIMEOUT=0.5,
        PROXIES=world.proxies(world.exits[:1]),
    )  # fmt: skip
    running = crawl.start(INLINE, settings)
    while "THROTTLED" not in running.log() and running.process.poll() is None:
        time.sleep(0.05)
    running.interrupt()
    result = running.wait(30)
    assert result.reason == "shutdown"
    assert {item["failed"] for item in result.items} == {"IgnoredRefused"}
    assert stat(result, "unserved") == len(result.items)
    assert result.stats["watch/leases"] == result.stats["watch/waiting"] == 0
