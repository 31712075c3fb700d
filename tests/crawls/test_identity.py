"""One visitor stays one visitor."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.crawls.scenery import assert_clean, by_session, by_visitor, cookie, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler

_IDENTITY = ("user-agent", "accept-language", "sec-ch-ua", "sec-ch-ua-platform", "accept-encoding")


def identity(headers: dict[str, str]) -> tuple[str | None, ...]:
    """The headers by which a site would tell visitors apart."""
    return tuple(headers.get(name) for name in _IDENTITY)


def test_each_session_is_one_visitor(make_world: Callable[..., World], crawl: Crawler) -> None:
    """Over redirects, retries and blocks each session has one exit, one header set, own cookies."""
    world = make_world(40, proxy={"in_turn": True})
    world.ban(world.exits[:3], "captcha-gzip")
    world.site.on("/page/1?", "error", times=3)
    pages = urls(world, 20) + urls(world, 10, https=True)
    pages += [world.url(f"/redirect?to=/page/r{n}") for n in range(6)]
    pages += [world.url(f"/redirect?to=https://shop.example/page/s{n}") for n in range(4)]
    pages += [
        world.url(f"/redirect?to=http://shop.example/page/t{n}", https=True) for n in range(4)
    ]
    world.site.on(
        "/refresh/*",
        {"like": "ok", "body": '<meta http-equiv="refresh" content="0; url=/page/refreshed">'},
    )
    pages += [world.url("/refresh/1")]
    result = crawl(pages, through(world, MAX_SESSIONS=8))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    sessions = by_session(world)
    assert len(sessions) > 8
    for visits in sessions.values():
        assert len({identity(visit.headers) for visit in visits}) == 1
    given = {cookie(visit): visit.exit for visit in world.site.visits if cookie(visit)}
    for visitor, visits in by_visitor(world.site.visits).items():
        assert not visitor or {visit.exit for visit in visits} == {given[visitor]}
    assert len({identity(visits[0].headers)[0] for visits in sessions.values()}) > 3
    for chain in ("r", "s", "t"):
        starts = defaultdict(set)
        for visit in world.site.visits:
            if f"/page/{chain}" in visit.path:
                starts[visit.path.rpartition("/")[2]].add(visit.exit)
        assert all(len(exits) == 1 for exits in starts.values())


def test_one_gateway_address_serves_five_sessions(world: World, crawl: Crawler) -> None:
    """Sessions on one gateway host:port differ by their user names, and stay apart."""
    pages = urls(world, 20)
    result = crawl(pages, through(world, POLICY="round-robin", MAX_SESSIONS=5))
    assert_clean(world, result)
    users = {passage.user for passage in world.proxy.passages}
    assert len(users) == 5
    assert users == {f"user-session-{item['session']}" for item in result.pages.values()}
    assert stat(result, "sessions/created") == 5


def test_session_ids_can_be_cut(world: World, crawl: Crawler) -> None:
    """``{session:8}`` in the gateway's user name becomes the id's first eight characters."""
    proxy = world.gateway.replace("{session}", "{session:8}")
    result = crawl(
        urls(world, 6), through(world, PROXY=proxy, POLICY="round-robin", MAX_SESSIONS=3)
    )
    assert_clean(world, result)
    short = {item["session"][:8] for item in result.pages.values()}
    assert {passage.session for passage in world.proxy.passages} == short
    assert len(short) == 3


def test_strange_credentials_arrive_intact(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """Percent-encoded credentials reach the proxy decoded, whatever characters they hold."""
    world = make_world(proxy={"template": "ü@%/#-{session}", "password": "p:@%/# ?&+ß"})
    address = world.gateway.rpartition("@")[2]
    proxy = f"http://%C3%BC%40%25%2F%23-{{session}}:p%3A%40%25%2F%23%20%3F%26%2B%C3%9F@{address}"
    pages = [*urls(world, 2), *urls(world, 2, https=True)]
    settings = through(world, PROXY=proxy, HTTPPROXY_AUTH_ENCODING="utf-8")
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    sessions = {item["session"] for item in result.pages.values()}
    assert {passage.user for passage in world.proxy.passages} == {f"ü@%/#-{s}" for s in sessions}


def test_own_headers_and_cookies_of_a_request_stay(world: World, crawl: Crawler) -> None:
    """What a request itself brought goes out with every session; defaults are the session's."""
    world.site.on("/echo", "forbidden", times=2)
    request = {
        "url": world.url("/echo"),
        "headers": {"User-Agent": "own/1.0", "X-Own": "1"},
        "cookies": {"basket": "7"},
    }
    result = crawl([request], through(world, USER_AGENT="project/1.0"))
    assert_clean(world, result)
    assert len(world.site.visits) == 3
    for visit in world.site.visits:
        assert visit.headers["user-agent"] == "own/1.0"
        assert visit.headers["x-own"] == "1"
        assert visit.headers["cookie"] == "basket=7"
    languages = {visit.headers["accept-language"] for visit in world.site.visits}
    assert languages != {"en"}


def test_an_explicit_cookie_header_stays_without_cookie_middleware(
    world: World, crawl: Crawler
) -> None:
    """With COOKIES_ENABLED off, a request's own Cookie header survives blocks and redirects."""
    world.site.on("/echo", "forbidden", times=1)
    request = {"url": world.url("/echo"), "headers": {"Cookie": "mine=1"}}
    result = crawl([request], through(world, COOKIES_ENABLED=False))
    assert_clean(world, result)
    assert [visit.headers.get("cookie") for visit in world.site.visits] == ["mine=1", "mine=1"]


def test_scrapys_own_headers_can_be_kept(world: World, crawl: Crawler) -> None:
    """Without an identity source, and only then, USER_AGENT of the project is what sites see."""
    result = crawl(urls(world, 3), through(world, IDENTITY=None, USER_AGENT="project/1.0"))
    assert_clean(world, result)
    assert {visit.headers["user-agent"] for visit in world.site.visits} == {"project/1.0"}
