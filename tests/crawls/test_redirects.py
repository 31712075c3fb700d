"""A redirect chain is one use of one session, wherever it leads."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest

from tests.crawls.scenery import assert_clean, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import Visit, World

    from tests.world.crawls import Crawler


def hop(world: World, to: str) -> str:
    """URL that redirects."""
    return world.url(f"/redirect?to={quote(to, safe='')}")


def test_a_chain_keeps_its_session(make_world: Callable[..., World], crawl: Crawler) -> None:
    """Same site or another, http or https: all hops go through one exit, as one use."""
    world = make_world(40, proxy={"in_turn": True})
    ways = [
        ("http://shop.example", "http://shop.example"),
        ("http://shop.example", "http://other.example"),
        ("http://shop.example", "http://elsewhere.test"),
        ("http://shop.example", "https://shop.example"),
        ("https://shop.example", "http://other.example"),
        ("https://shop.example", "https://other.example"),
    ]
    ends = {}
    for n, (start, end) in enumerate(ways):
        for status in (301, 302, 303, 307):
            last = f"{end}/page/{n}-{status}"
            second = quote(f"{start}/redirect?to={quote(last, safe='')}", safe="")
            ends[f"{start}/redirect?to={second}&status={status}"] = last
    result = crawl(list(ends), through(world, MAX_USES=1))
    assert_clean(world, result)
    assert {item["url"]: item["final"] for item in result.items} == ends
    exits, agents = defaultdict(set), defaultdict(set)
    for visit in world.site.visits:
        number = unquote(unquote(visit.path)).partition("/page/")[2][:5]
        exits[number].add(visit.exit)
        agents[number].add(visit.headers["user-agent"])
        assert "proxy-authorization" not in visit.headers
    assert len(exits) == len(ends)
    assert all(len(seen) == 1 for seen in [*exits.values(), *agents.values()])
    assert len(world.site.visits) == 3 * len(ends)
    assert stat(result, "redirects_restarted") == 0
    assert stat(result, "sessions/created") == stat(result, "sessions/retired/uses") == len(ends)


def test_meta_refresh_keeps_the_session(make_world: Callable[..., World], crawl: Crawler) -> None:
    """The page behind a meta refresh is fetched by the visitor that saw the refresh."""
    world = make_world(40, proxy={"in_turn": True})
    for n in range(5):
        world.site.on(
            f"/old/{n}",
            {
                "like": "ok",
                "body": f'<html><meta http-equiv="refresh" content="0; url=/page/{n}"></html>',
            },
        )
    pages = urls(world, 5, "/old/{}")
    result = crawl(pages, through(world, MAX_USES=1))
    assert_clean(world, result)
    exits = defaultdict(set)
    for visit in world.site.visits:
        exits[visit.path[-1]].add(visit.exit)
    assert all(len(seen) == 1 for seen in exits.values())
    assert len({exit_ for seen in exits.values() for exit_ in seen}) == 5
    assert {item["final"] for item in result.items} == set(urls(world, 5))


def test_a_block_at_the_end_of_a_chain_starts_it_again(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """The retry of a blocked hop begins at the first URL, as it was: method, body, headers, cookies."""
    world = make_world(40, proxy={"in_turn": True})
    world.site.on("/page/end", "forbidden", times=2)
    start = hop(world, "http://other.example/page/end")
    request = {
        "url": start,
        "method": "POST",
        "body": "a=1",
        "headers": {
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": "Basic b3duOm93bg==",
        },
        "cookies": {"basket": "7"},
    }
    result = crawl([request], through(world))
    assert_clean(world, result)
    firsts = [visit for visit in world.site.visits if visit.path.startswith("/redirect")]
    ends = [visit for visit in world.site.visits if visit.path == "/page/end"]
    assert len(firsts) == len(ends) == 3
    assert [visit.exit for visit in firsts] == [visit.exit for visit in ends]
    assert len({visit.exit for visit in firsts}) == 3
    for visit in firsts:
        assert (visit.method, visit.body) == ("POST", b"a=1")
        assert visit.headers["content-type"] == "application/x-www-form-urlencoded"
        assert visit.headers["authorization"] == "Basic b3duOm93bg=="
        assert visit.headers["cookie"] == "basket=7"
    for visit in ends:
        assert (visit.method, visit.body) == ("GET", b"")
        assert "authorization" not in visit.headers
    assert result.pages[start]["final"] == "http://other.example/page/end"


def test_a_loop_of_redirects_ends_as_in_scrapy(world: World, crawl: Crawler) -> None:
    """Endless redirects end at REDIRECT_MAX_TIMES, and cost no session anything."""

    def onwards(visit: Visit) -> dict[str, object]:
        number = int(visit.path.rpartition("/")[2])
        return {"status": 302, "headers": {"Location": f"/loop/{number + 1}"}}

    world.site.on("/loop/*", onwards)
    page = world.url("/loop/0")
    result = crawl([page], through(world, REDIRECT_MAX_TIMES=6))
    assert_clean(world, result)
    assert result.failures[page]["error"] == "IgnoreRequest"
    assert len(world.site.visits) == 7
    assert len({visit.exit for visit in world.site.visits}) == 1
    assert stat(result, "sessions/created") == 1
    assert stat(result, "sessions/retired") == 0


def test_a_chain_whose_session_is_gone_starts_again(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """When the session was retired between two hops, the chain restarts, with nothing mixed."""
    world = make_world(40, proxy={"in_turn": True})
    # while the chains are under way, another page of the same session is blocked
    world.site.on(
        "/redirect*",
        lambda visit: {"status": 302, "delay": 0.3, "headers": {"Location": "/slow-hop"}},
    )
    world.site.on("/page/bad", {"like": "forbidden", "delay": 0.1}, times=1)
    chain = world.url("/redirect?x=1")
    world.site.on("/slow-hop", "ok")
    result = crawl([chain, world.url("/page/bad")], through(world, POLICY="until-blocked"))
    assert_clean(world, result)
    assert set(result.pages) == {chain, world.url("/page/bad")}
    firsts = [v.exit for v in world.site.visits if v.path.startswith("/redirect")]
    assert len(firsts) == 2
    assert [v.exit for v in world.site.visits if v.path == "/slow-hop"] == firsts[1:]
    assert stat(result, "redirects_restarted") == 1


def test_offsite_redirects_stay_filtered(world: World, crawl: Crawler) -> None:
    """OffsiteMiddleware still judges the hops of a page that was blocked before."""
    world.site.on("/redirect*", "forbidden", times=1)
    spider = f"""
    import scrapy

    class Inside(scrapy.Spider):
        name = "inside"
        allowed_domains = ["shop.example"]

        async def start(self):
            yield scrapy.Request("{hop(world, "http://other.example/page/1")}")

        def parse(self, response):
            yield {{"url": response.url}}
    """
    result = crawl(spider, through(world))
    assert_clean(world, result)
    assert result.items == []
    assert result.stats["offsite/filtered"] == 1
    assert {visit.host for visit in world.site.visits} == {"shop.example"}


@pytest.mark.parametrize("policy", ["adaptive", "random"])
def test_a_refresh_that_cannot_be_read_costs_its_page(
    world: World, crawl: Crawler, policy: str
) -> None:
    """Scrapy raises on it, and the page reaches the errback; its session goes on."""
    broken = '<meta http-equiv="refresh" content="0; url=http://[x">'
    for n in range(4):
        world.site.on(f"/page/{n}", {"like": "ok", "body": broken})
    pages = urls(world, 20)
    settings = through(
        world, PROXIES=world.proxies(world.exits[:4]), POLICY=policy, CONCURRENCY=1,
        EXHAUSTED_TIMEOUT=10,
    )  # fmt: skip
    result = crawl(pages, settings)
    assert result.reason == "finished"
    assert set(result.pages) == set(pages[4:])
    assert result.stats["watch/leases"] == result.stats["watch/in_flight"] == 0


def test_copied_meta_does_not_carry_a_chain_over(world: World, crawl: Crawler) -> None:
    """A page made with a redirected response's meta is tried again itself, not that chain."""
    world.site.on("/page/second", "forbidden", times=1)
    spider = f"""
    import scrapy

    class Copied(scrapy.Spider):
        name = "copied"

        async def start(self):
            yield scrapy.Request("{hop(world, "/page/first")}", self.first)

        def first(self, response):
            meta = dict(response.meta)
            yield scrapy.Request("{world.url("/page/second")}", self.second, meta=meta)

        def second(self, response):
            yield {{"url": response.url, "way": response.meta.get("redirect_urls")}}
    """
    result = crawl(spider, through(world))
    assert_clean(world, result)
    assert result.items == [{"url": world.url("/page/second"), "way": None}]


REFRESH = {
    "like": "captcha-403",
    "body": '<meta http-equiv="refresh" content="0; url=/captcha"><title>Just a moment...</title>',
}


@pytest.mark.parametrize("block", ["captcha-redirect", "refresh"])
@pytest.mark.parametrize("wish", ["dont_retry", "deliver"])
def test_a_block_that_leads_on_is_not_followed(
    world: World, crawl: Crawler, block: str, wish: str
) -> None:
    """Passed on, Scrapy would follow it, and the chain begin anew on one proxy after another."""
    world.site.on("/page/0", REFRESH if block == "refresh" else block)
    page = world.url("/page/0")
    meta = {"dont_retry": True} if wish == "dont_retry" else {}
    settings = through(
        world, POLICY="random", RETRY_TIMES=1, WAIT_TIMEOUT=0.2,
        GIVE_UP="deliver" if wish == "deliver" else "drop",
    )  # fmt: skip
    result = crawl([{"url": page, "meta": meta}], settings)
    assert_clean(world, result)
    assert stat(result, "redirects_restarted") == 0
    if wish == "deliver":
        assert len(world.site.visits) == 2
        assert result.pages[page]["flags"] == ["session_filter_blocked"]
        assert result.pages[page]["final"] == page
    else:
        assert len(world.site.visits) == 1
        assert result.failures[page]["error"] == "IgnoredGiveUp"
