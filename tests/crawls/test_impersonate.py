"""Sessions on scrapy-impersonate: one browser's TLS and headers, proxy and cookies each."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from scrapy import Request

from scrapy_session_filter.engines.impersonate import _undoing
from tests.crawls.scenery import assert_clean, by_session, cookie, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler

CurlOpt = pytest.importorskip("curl_cffi").CurlOpt
pytest.importorskip("scrapy_impersonate")

HANDLERS = {
    "DOWNLOAD_HANDLERS": dict.fromkeys(
        ("http", "https"), "scrapy_impersonate.ImpersonateDownloadHandler"
    )
}
NOT_VERIFIED = {"impersonate_args": {"verify": False}}  # the site vouches for itself


def pages(world: World, count: int, https: bool, **meta: Any) -> list[dict[str, Any]]:
    """Requests for so many pages."""
    return [{"url": u, "meta": {**NOT_VERIFIED, **meta}} for u in urls(world, count, https=https)]


@pytest.mark.parametrize("https", [False, True])
def test_each_session_is_one_browser(
    make_world: Callable[..., World], crawl: Crawler, https: bool
) -> None:
    """Proxy with password, User-Agent, client hints and cookies are one visitor's, for both schemes."""
    world = make_world(12, proxy={"in_turn": True, "password": "s3:cret/%"})
    proxy = world.gateway.replace("s3:cret/%", "s3%3Acret%2F%25")
    targets = ["chrome", "firefox", "safari184"]
    settings = through(
        world, PROXY=proxy, POLICY="round-robin", MAX_SESSIONS=6, IMPERSONATE=targets, **HANDLERS
    )
    env = {"no_proxy": "*", "NO_PROXY": "*", "all_proxy": "http://127.0.0.1:9"}
    result = crawl(pages(world, 36, https), settings, env=env)
    assert_clean(world, result)
    assert len(result.pages) == 36
    assert all("impersonate" in page["flags"] for page in result.pages.values())
    sessions = by_session(world)
    assert len(sessions) == 6
    agents = set()
    for visits in sessions.values():
        [agent] = {visit.headers["user-agent"] for visit in visits}
        agents.add(agent)
        assert "Scrapy" not in agent
        hints = visits[0].headers.get("sec-ch-ua", "")
        assert ("Chrome" in agent) == ("Google Chrome" in hints)
        assert len({visit.headers["accept"] for visit in visits}) == 1
        assert "Scrapy" not in str(visits[0].headers)
        assert "proxy-authorization" not in visits[0].headers
    assert len(agents) >= 2
    assert not world.site.direct_visits
    jars = [{cookie(v) for v in visits} - {""} for visits in sessions.values()]
    # requests that went out together before the first answer may each be given one
    assert all(jars)
    assert len(set().union(*jars)) == sum(map(len, jars))


def test_a_target_is_for_life(make_world: Callable[..., World], crawl: Crawler) -> None:
    """After a restart each session has the target it had, whatever a request or setting asks for."""
    world = make_world(12, proxy={"in_turn": True})
    settings = through(world, POLICY="round-robin", MAX_SESSIONS=4, STORE="sqlite:", **HANDLERS)
    wish = ["chrome", "firefox", "safari184", "edge"]
    requests = pages(world, 16, False)
    for n, request in enumerate(requests):
        request["meta"]["impersonate"] = wish[n % 4]
    result = crawl(requests, {**settings, "CONCURRENT_REQUESTS": 1})
    assert_clean(world, result)
    again = crawl(pages(world, 16, False), {**settings, "SESSION_FILTER_IMPERSONATE": ["tor145"]})
    assert_clean(world, again)
    assert stat(again, "sessions/restored") == 4
    agents: dict[str, set[str]] = defaultdict(set)
    for exit_, visits in by_session(world).items():
        agents[exit_] = {visit.headers["user-agent"] for visit in visits}
        assert len(visits) == 8
    assert [len(found) for found in agents.values()] == [1, 1, 1, 1]
    assert len(set.union(*agents.values())) == 4


@pytest.mark.parametrize("https", [False, True])
def test_blocks_and_redirects(world: World, crawl: Crawler, https: bool) -> None:
    """Blocked pages go out again on another session; Scrapy follows redirects, in the same one."""
    world.ban(world.exits[:5], "captcha-gzip")
    world.site.on("/page/1", {"status": 302, "headers": {"Location": "/page/end"}})
    world.site.on("/page/2", "captcha-redirect", times=2)
    requests = pages(world, 20, https)
    settings = through(world, IMPERSONATE="chrome", **HANDLERS)
    result = crawl(requests, settings)
    assert_clean(world, result)
    assert len(result.pages) == 20
    assert result.pages[requests[1]["url"]]["final"].endswith("/page/end")
    assert {page["status"] for page in result.pages.values()} == {200}
    assert "/captcha" not in {visit.path for visit in world.site.visits}


def test_faults_of_curl_have_verdicts(make_world: Callable[..., World], crawl: Crawler) -> None:
    """Dead proxies, refused tunnels and wrong passwords are the proxy's; a lost connection is not."""
    world = make_world(12, proxy={"in_turn": True})
    world.proxy.spoil(world.exits[:1], "407")
    world.proxy.spoil(world.exits[1:2], "tunnel")
    dead = world.exits[2:3]
    proxies = world.proxies(world.exits[:6])
    world.kill(dead)
    requests = pages(world, 24, True)
    settings = through(world, PROXIES=proxies, POLICY="random", IMPERSONATE="chrome", **HANDLERS)
    result = crawl(requests, settings)
    assert_clean(world, result)
    assert len(result.pages) == 24
    reasons = {
        n.rpartition("/")[2] for n in result.stats if n.startswith("session_filter/reasons/")
    }
    assert reasons == {"proxy-auth", "proxy-tunnel", "proxy-refused"}
    world.site.on("/page/1", "close", times=1)
    world.site.on("/page/2", "hang", times=1)
    settings = through(
        world, PROXIES=world.proxies(world.exits[6:]), POLICY="random", IMPERSONATE="chrome",
        FIRST_TIMEOUT=1, DOWNLOAD_TIMEOUT=1, **HANDLERS,
    )  # fmt: skip
    result = crawl(requests[:6], settings)
    assert_clean(world, result)
    assert len(result.pages) == 6
    assert stat(result, "reasons/unnamed/connection-lost") == 1
    assert stat(result, "reasons/unnamed/proxy-timeout") == 1


def test_what_would_undo_a_session_is_refused(world: World, crawl: Crawler) -> None:
    """Arguments of curl that change proxy, cookies or redirects stop the request; others pass."""
    bad = [
        {"impersonate": "netscape4"},
        {"impersonate": "chrome", "impersonate_args": {"proxies": {"all": "http://127.0.0.1:9"}}},
        {"impersonate": "chrome", "impersonate_args": {"allow_redirects": True}},
        {"impersonate": "chrome", "impersonate_curl_options": {"proxy": "http://127.0.0.1:9"}},
    ]
    fine: list[dict[str, Any]] = [
        {"impersonate": "chrome", "impersonate_args": {"timeout": 5}},
        {"impersonate": "firefox", "impersonate_curl_options": {"TCP_NODELAY": 1}},
        {"impersonate": None},
    ]
    requests = [{"url": u, "meta": m} for u, m in zip(urls(world, 7), bad + fine, strict=True)]
    result = crawl(requests, through(world, **HANDLERS))
    assert_clean(world, result)
    assert set(result.pages) == {r["url"] for r in requests[4:]}
    assert stat(result, "refused") == 4
    assert "no impersonation target 'netscape4'" in result.log
    assert "with 'PROXY' would undo the session" in result.log


@pytest.mark.parametrize("option", [CurlOpt.PROXY, int(CurlOpt.PROXYUSERPWD), "noproxy", 987654])
def test_options_are_known_by_any_name(option: object) -> None:
    """An option of curl is recognised as enumeration, as number, and in small letters."""
    meta = {"impersonate": "chrome", "impersonate_curl_options": {option: "x"}}
    assert _undoing(Request("http://shop.example/", meta=meta)) is not None
    meta["impersonate_curl_options"] = {CurlOpt.TCP_NODELAY: 1, "dns_servers": "127.0.0.1"}
    assert _undoing(Request("http://shop.example/", meta=meta)) is None


def test_cookies_of_a_request_are_sent_once(world: World, crawl: Crawler) -> None:
    """Cookies of a request join those of its session and are sent once, in one header."""
    url = world.url("/echo")
    request = {"url": url, "cookies": {"mine": "1"}, "meta": {"impersonate": "chrome"}}
    result = crawl([request], through(world, **HANDLERS))
    assert_clean(world, result)
    [visit] = world.site.visits
    assert visit.headers["cookie"].count("mine=1") == 1
    assert "Chrome/" in visit.headers["user-agent"]


@pytest.mark.direct
def test_direct_sessions_ignore_proxies_of_the_environment(world: World, crawl: Crawler) -> None:
    """A session without a proxy goes directly, whatever the environment says."""
    env = {"http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    settings = through(world, PROXY="direct", IMPERSONATE="firefox", **HANDLERS)
    result = crawl([world.direct_url("/page/1")], settings, env=env)
    assert len(result.pages) == len(world.site.direct_visits) == 1


def test_settings_that_cannot_work_stop_the_crawl(world: World, crawl: Crawler) -> None:
    """IMPERSONATE without the handler, or with an unknown target, is refused before any request."""
    for settings, said in (
        (through(world, IMPERSONATE="chrome"), "DOWNLOAD_HANDLERS['http'] ="),
        (
            through(world, IMPERSONATE=["mosaic"], **HANDLERS),
            "SESSION_FILTER_IMPERSONATE = 'mosaic'",
        ),
    ):
        result = crawl(urls(world, 1), settings)
        assert result.exit_code != 0
        assert said in result.log
    assert not world.site.visits
