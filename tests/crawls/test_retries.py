"""Blocked pages go out again on other sessions, on a budget of their own, and none is lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.crawls.scenery import assert_clean, by_session, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler


@pytest.mark.parametrize(
    "policy", ["classic", "random", "round-robin", "least-used", "until-blocked"]
)
def test_every_page_comes_through_bans(
    make_world: Callable[..., World], crawl: Crawler, policy: str
) -> None:
    """Whatever way an exit blocks, each page is delivered once, and never asked twice of one exit."""
    world = make_world(60, proxy={"in_turn": True})
    kinds = (
        "captcha-gzip",
        "forbidden",
        "captcha-redirect",
        "too-many",
        "captcha",
        "challenge-503",
    )
    for exit_, kind in zip(world.exits, kinds, strict=False):
        world.ban([exit_], kind)
    pages = urls(world, 30)
    result = crawl(pages, through(world, POLICY=policy, MAX_SESSIONS=20, WAIT_TIMEOUT=0.5))
    assert_clean(world, result)
    assert Counter(item["url"] for item in result.items) == Counter(pages)
    assert {item["status"] for item in result.items} == {200}
    attempts = defaultdict(list)
    for visit in world.site.visits:
        if visit.path != "/captcha":
            attempts[visit.path].append(visit.exit)
    assert all(len(exits) == len(set(exits)) for exits in attempts.values())
    blocked = {visit.path for visit in world.site.visits if visit.block}
    assert blocked
    assert stat(result, "retries") == world.site.blocked
    assert "retry/count" not in result.stats
    assert "httperror/response_ignored_count" not in result.stats


def test_retries_have_their_own_budget(world: World, crawl: Crawler) -> None:
    """A page costs at most RETRY_TIMES more attempts; Scrapy's own budget is not touched by them."""
    world.site.on("/page/0", "forbidden")
    world.site.on("/page/1", "error")
    world.site.on("/page/2", "error", times=2)
    world.site.on("/page/2", "forbidden", times=3)
    pages = urls(world, 4)
    result = crawl(pages, through(world, RETRY_TIMES=4))
    assert_clean(world, result)
    asked = Counter(visit.path for visit in world.site.visits)
    assert asked == {"/page/0": 5, "/page/1": 3, "/page/2": 6, "/page/3": 1}
    assert result.failures[pages[0]]["error"] == "IgnoredGiveUp"
    assert "after 5 attempts" in result.failures[pages[0]]["message"]
    assert result.failures[pages[1]]["error"] == "HttpError"
    assert set(result.pages) == {pages[2], pages[3]}
    assert stat(result, "gave_up") == 1
    assert stat(result, "retries") == 4 + 3
    assert result.stats["retry/count"] == 2 + 2


def test_a_retry_takes_another_session_and_keeps_its_priority(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """A blocked page of high priority is asked again, elsewhere, before pages of lower priority."""
    world = make_world(40, proxy={"in_turn": True})
    world.site.on("/page/first", "forbidden", times=2)
    requests = [{"url": world.url("/page/first"), "priority": 10}, *urls(world, 10)]
    result = crawl(requests, through(world, CONCURRENT_REQUESTS=1))
    assert_clean(world, result)
    order = [visit.path for visit in world.site.visits]
    assert order.index("/page/9") > 2
    assert max(n for n, path in enumerate(order) if path == "/page/first") <= 3
    exits = [visit.exit for visit in world.site.visits if visit.path == "/page/first"]
    assert len(set(exits)) == 3


def test_scrapys_retries_take_another_session(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """A page that RetryMiddleware sends again after a site error goes through another session."""
    world = make_world(30, proxy={"in_turn": True})
    world.site.on("/page/*", "error", times=4)
    result = crawl(urls(world, 4), through(world, CONCURRENT_REQUESTS=1, POLICY="until-blocked"))
    assert_clean(world, result)
    exits = defaultdict(list)
    for visit in world.site.visits:
        exits[visit.path].append(visit.exit)
    assert all(len(set(seen)) == len(seen) for seen in exits.values())
    assert len(result.pages) == 4
    assert stat(result, "sessions/retired") == 0


def test_one_captcha_page_for_all_loses_none(world: World, crawl: Crawler) -> None:
    """Four pages redirected to one and the same captcha URL all come through in the end."""
    world.site.on("/page/*", "captcha-redirect", times=4)
    pages = urls(world, 4)
    result = crawl(pages, through(world))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert {item["final"] for item in result.items} == set(pages)
    assert "/captcha" not in {visit.path for visit in world.site.visits}


def test_deliver_hands_the_block_page_over(world: World, crawl: Crawler) -> None:
    """With GIVE_UP "deliver" the callback gets the last answer, flagged; exceptions still fail."""
    world.site.on("/page/0", "captcha-403")
    world.site.on("/page/1", "captcha-redirect")
    world.site.on("/page/2", "too-many")
    world.site.on("/page/3", "captcha-gzip")
    pages = urls(world, 5)
    result = crawl(
        pages, through(world, RETRY_TIMES=1, GIVE_UP="deliver", WAIT_TIMEOUT=0.2), timeout=60
    )
    assert_clean(world, result)
    assert [result.pages[page]["status"] for page in pages] == [403, 302, 429, 200, 200]
    for page in pages[:4]:
        assert result.pages[page]["flags"] == ["session_filter_blocked"]
        assert result.pages[page]["verdict"]["kind"] in ("BLOCKED", "THROTTLED")
    assert result.pages[pages[4]]["flags"] == []
    assert stat(result, "gave_up") == 4
    assert "retry/count" not in result.stats


def test_wishes_of_the_user_are_honoured(world: World, crawl: Crawler) -> None:
    """dont_retry, handle_httpstatus_list and _all get the answer at once; it is scored all the same."""
    for n in range(4):
        world.site.on(f"/page/{n}", "forbidden")
    pages = urls(world, 4)
    wishes = (
        {"handle_httpstatus_list": [403]},
        {"handle_httpstatus_all": True},
        {"dont_retry": True},
        {"handle_httpstatus_list": [404]},
    )
    requests = [{"url": page, "meta": meta} for page, meta in zip(pages, wishes, strict=True)]
    result = crawl(requests, through(world, RETRY_TIMES=2))
    assert_clean(world, result)
    assert [result.pages[page]["status"] for page in pages[:2]] == [403, 403]
    assert result.failures[pages[2]]["error"] == "HttpError"
    assert result.failures[pages[3]]["error"] == "IgnoredGiveUp"
    assert Counter(visit.path for visit in world.site.visits)["/page/3"] == 3
    assert stat(result, "verdicts/BLOCKED") == 6
    assert stat(result, "sessions/retired/blocked") >= 3


FILTERED = """
import scrapy

class Filtered(scrapy.Spider):
    name = "filtered"

    async def start(self):
        for n in (0, 0, 1):
            url = f"http://shop.example/page/{n}"
            yield scrapy.Request(url, callback=self.parse, cb_kwargs={"n": n})
        yield scrapy.Request("http://shop.example/page/1", self.parse, dont_filter=True,
                             cb_kwargs={"n": 2})

    def parse(self, response, n):
        yield {"n": n, "dont_filter": response.request.dont_filter}
        if n < 2:
            yield scrapy.Request(f"http://shop.example/page/{1 - n}", self.parse, cb_kwargs={"n": 3})
"""


def test_the_duplicates_filter_works_on(world: World, crawl: Crawler) -> None:
    """Our copies pass the filter; the user's dont_filter is back at the callback, and holds."""
    world.site.on("/page/*", "forbidden", times=4)
    result = crawl(FILTERED, through(world))
    assert_clean(world, result)
    said = sorted((item["n"], item["dont_filter"]) for item in result.items)
    assert said == [(0, False), (1, False), (2, True)]
    assert len(world.site.visits) == 3 + 4


def test_errback_says_why(world: World, crawl: Crawler) -> None:
    """The errback's SessionFilterGiveUp carries URL, verdict and attempts, and is an IgnoreRequest."""
    world.site.on("/page/0", "forbidden")
    spider = """
    import scrapy
    from scrapy.exceptions import IgnoreRequest
    from scrapy_session_filter import Kind, SessionFilterGiveUp

    class Why(scrapy.Spider):
        name = "why"

        async def start(self):
            yield scrapy.Request("http://shop.example/page/0", errback=self.failed)

        def failed(self, failure):
            error = failure.value
            assert isinstance(error, SessionFilterGiveUp) and isinstance(error, IgnoreRequest)
            yield {"url": error.url, "kind": error.verdict.kind, "attempts": error.attempts,
                   "blocked": error.verdict.kind is Kind.BLOCKED}
    """
    result = crawl(spider, through(world, RETRY_TIMES=2))
    assert_clean(world, result)
    assert result.items == [
        {"url": world.url("/page/0"), "kind": "BLOCKED", "attempts": 3, "blocked": True}
    ]
    assert len(by_session(world)) >= 2


def test_a_page_kept_from_countries(make_world: Callable[..., World], crawl: Crawler) -> None:
    """What a site refuses to one country after another is tried through three exits, no more."""
    world = make_world(20, proxy={"in_turn": True})
    page = "<title>Access denied</title><p>Cloudflare <span class='cf-error-code'>1009</span>"
    world.site.on("/page/0", {"status": 403, "body": page.replace("'", '"')})
    result = crawl(urls(world, 4), through(world))
    assert_clean(world, result)
    assert [visit.path for visit in world.site.visits].count("/page/0") == 3
    assert stat(result, "blocked/cloudflare/country-ban") == 3
    assert stat(result, "gave_up") == 1
    assert len(result.pages) == 3
