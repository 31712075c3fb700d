"""Scrapy's HTTP cache beside sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.crawls.scenery import assert_clean, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler


def test_blocks_are_not_cached_and_cached_pages_are_no_evidence(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """The cache holds pages only; replayed they cost no use and prove nothing of a session."""
    world = make_world(60, proxy={"in_turn": True})
    kinds = (
        "forbidden",
        "captcha",
        "captcha-gzip",
        "captcha-redirect",
        "too-many",
        "challenge-503",
    )
    for n, kind in enumerate(kinds):
        world.site.on(f"/page/{n}", kind, times=1)
    world.proxy.spoil(world.exits[:3], "error-page", times=1)
    world.proxy.spoil(world.exits[3:5], "407", times=1)
    pages = urls(world, 20)
    settings = through(world, HTTPCACHE_ENABLED=True, MAX_USES=2, POLICY="until-blocked")
    first = crawl(pages, settings)
    assert_clean(world, first)
    assert {first.pages[page]["title"] for page in pages} == {f"Page {n}" for n in range(20)}
    assert stat(first, "retries") == len(kinds) + 5
    assert first.stats["httpcache/store"] == 20
    assert first.stats["watch/verdicts"] == 0
    world.site.on("*", "forbidden")
    world.site.forget_visits()
    second = crawl(pages, settings)
    assert_clean(world, second)
    assert {second.pages[page]["title"] for page in pages} == {f"Page {n}" for n in range(20)}
    assert all(second.pages[page]["session"] for page in pages)
    assert not world.site.visits
    assert stat(second, "cached") == 20
    assert stat(second, "verdicts/OK") == stat(second, "sessions/retired") == 0


def test_a_cache_is_no_drought(world: World, crawl: Crawler) -> None:
    """Hundreds of pages that never came to the site are no tries there: none has to wait."""
    pages = urls(world, 300)
    settings = through(world, HTTPCACHE_ENABLED=True, STORE="memory:")
    crawl(pages, {**settings, "SESSION_FILTER_POLICY": "round-robin"})
    world.site.on("*", "forbidden")
    slowly = {"CONCURRENT_REQUESTS": 1, "SESSION_FILTER_SAVE_INTERVAL": 0.2}
    again = [{"url": page, "dont_filter": True} for page in pages * 4]
    result = crawl(again, {**settings, **slowly, "SESSION_FILTER_EXHAUSTED_TIMEOUT": 1.5})
    assert_clean(world, result)
    assert stat(result, "cached") == len(again)
    assert stat(result, "waits") == stat(result, "sites_given_up") == 0


def test_a_reported_block_is_fetched_anew(world: World, crawl: Crawler) -> None:
    """After report_block the next attempt asks the site, not the cache."""
    world.site.on("/page/1", {"like": "ok", "body": "<title>Nothing</title>"}, times=1)
    spider = """
    import scrapy
    from scrapy_session_filter import report_block

    class Reports(scrapy.Spider):
        name = "reports"

        async def start(self):
            yield scrapy.Request("http://shop.example/page/1")

        def parse(self, response):
            if b"Nothing" in response.body:
                yield report_block(response)
            else:
                yield {"url": response.url}
    """
    result = crawl(spider, through(world, HTTPCACHE_ENABLED=True))
    assert_clean(world, result)
    assert len(result.items) == 1
    assert len(world.site.visits) == 2
    # a run that finds the soft ban in its cache gets over it as well, and no session pays for it
    again = crawl(spider, through(world, HTTPCACHE_ENABLED=True))
    assert len(again.items) == 1
    assert stat(again, "sessions/retired") == 0
