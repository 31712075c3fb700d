"""Scrapy's HTTP cache beside sessions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.crawls.scenery import assert_clean, by_session, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import Visit, World

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


REPORTS = """
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
            yield {"url": response.url, "body": response.text}
"""


def test_a_reported_block_is_fetched_anew(world: World, crawl: Crawler) -> None:
    """After report_block the next attempt asks the site, not the cache."""
    world.site.on("/page/1", {"like": "ok", "body": "<title>Nothing</title>"}, times=1)
    result = crawl(REPORTS, through(world, HTTPCACHE_ENABLED=True))
    assert_clean(world, result)
    assert len(result.items) == 1
    assert len(world.site.visits) == 2
    # a run that finds the soft ban in its cache gets over it as well, and no session pays for it
    again = crawl(REPORTS, through(world, HTTPCACHE_ENABLED=True))
    assert len(again.items) == 1
    assert stat(again, "sessions/retired") == 0


def test_blocks_behind_a_cached_redirect(make_world: Callable[..., World], crawl: Crawler) -> None:
    """The chain starts again out of the cache, and its page is no duplicate."""
    world = make_world(40, proxy={"in_turn": True})
    for n in range(4):
        world.site.on(f"/page/{n}", "captcha", times=1)
    pages = [world.url(f"/redirect?to=/page/{n}") for n in range(4)]
    result = crawl(pages, through(world, HTTPCACHE_ENABLED=True))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert "dupefilter/filtered" not in result.stats
    assert stat(result, "cached") == 4


def validated(visit: Visit) -> dict[str, object]:
    """A page, or a redirect, that is cached for no time at all, but may be asked for again."""
    tag = {"ETag": f'"{visit.path}"'}
    if visit.headers.get("if-none-match") == tag["ETag"]:
        return {"status": 304, "headers": tag}
    fields = {**tag, "Cache-Control": "max-age=0", "Content-Type": "text/html"}
    if visit.path.startswith("/old/"):
        return {"status": 301, "headers": {**fields, "Location": visit.path.replace("old", "page")}}
    return {"headers": fields, "body": f"<title>{visit.path}</title>"}


VALIDATING = {
    "HTTPCACHE_ENABLED": True,
    "HTTPCACHE_POLICY": "scrapy.extensions.httpcache.RFC2616Policy",
}


def test_a_page_that_is_still_good_is_a_use(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """Asking the site whether a cached page holds counts like any request, redirects as well."""
    world = make_world(40, proxy={"in_turn": True})
    world.site.on("/page/*", validated)
    world.site.on("/old/*", validated)
    pages = [*urls(world, 6), *(world.url(f"/old/{n}") for n in range(10, 14))]
    settings = through(world, MAX_USES=2, POLICY="until-blocked", **VALIDATING)
    crawl(pages, settings)
    world.site.forget_visits()
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert {visit.status for visit in world.site.visits} == {304}
    assert len(world.site.visits) == 14
    assert stat(result, "verdicts/OK") == 14
    assert stat(result, "cached") == result.stats["watch/verdicts"] == 0
    assert stat(result, "sessions/retired/uses") == stat(result, "sessions/created") == 5
    assert stat(result, "redirects_restarted") == 0


def test_the_hop_after_a_cached_redirect_is_a_use(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """The redirect cost none: the page that it leads to is fetched within the session's limits."""
    world = make_world(40, proxy={"in_turn": True})
    pages = [world.url(f"/redirect?to=/page/{n}") for n in range(10)]
    settings = through(
        world, HTTPCACHE_ENABLED=True, HTTPCACHE_IGNORE_HTTP_CODES=[200], MAX_USES=2,
        POLICY="until-blocked",
    )  # fmt: skip
    crawl(pages, settings)
    world.site.forget_visits()
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert stat(result, "cached") == len(world.site.visits) == 10
    assert Counter(len(visits) for visits in by_session(world).values()) == {2: 5}


def test_a_reported_block_is_not_asked_for_again(world: World, crawl: Crawler) -> None:
    """The next attempt does not ask whether the block page, or the copy it replaced, still holds."""
    world.site.on("/page/*", validated)
    settings = through(world, RETRY_TIMES=2, **VALIDATING)
    crawl(REPORTS, settings)
    world.site.on("/page/1", {"like": "ok", "body": "<title>Nothing</title>"}, times=1)
    world.site.forget_visits()
    result = crawl(REPORTS, settings)
    assert_clean(world, result)
    assert [item["body"] for item in result.items] == ["<title>/page/1</title>"]
    assert [v.headers.get("if-none-match") for v in world.site.visits] == ['"/page/1"', None]
    assert "internal meta keys" not in result.log
