"""Where proxies come from, as a crawl sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.crawls.scenery import assert_clean, by_session, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler


def test_a_list_gives_each_proxy_one_session(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """A site has at most one session on each proxy of a list; every site has its own."""
    world = make_world(6, proxy={"list_auth": "us er:p@ss"})
    proxies = [p.replace("us er:p@ss", "us%20er:p%40ss") for p in world.proxies()]
    pages = urls(world, 20) + urls(world, 20, host="other.com")
    result = crawl(pages, through(world, PROXIES=proxies, POLICY="round-robin"))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert stat(result, "sessions/created") == 12
    for host in ("shop.example", "other.com"):
        seen = {(v.exit, v.headers["user-agent"]) for v in world.site.visits if v.host == host}
        assert len(seen) == len({exit_ for exit_, _ in seen}) == 6
    assert {(p.user, p.password) for p in world.proxy.passages} == {("us er", "p@ss")}


def test_a_blocked_proxy_of_a_list_rests_before_its_next_session(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """After a block the proxy rests on that site; after its uses are up it is free at once."""
    world = make_world(4)
    world.ban(world.exits[:2])
    pages = urls(world, 24)
    result = crawl(
        pages, through(world, PROXIES=world.proxies(), MAX_USES=3, POLICY="until-blocked",
                       CONCURRENT_REQUESTS=2),
    )  # fmt: skip
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    sessions = by_session(world)
    banned = [sessions[exit_] for exit_ in world.exits[:2] if exit_ in sessions]
    assert banned  # chance decides whether both are tried
    assert all(len(visits) <= 2 for visits in banned)  # as many as are sent at once
    assert stat(result, "sessions/retired/blocked") == len(banned)
    assert stat(result, "sessions/retired/uses") >= 7


def test_a_file_is_read_again_when_it_changes(world: World, crawl: Crawler) -> None:
    """Proxies that leave the file are not used any more, new ones are; comments are passed over."""
    path = crawl.folder / "proxies.txt"
    old, new = world.proxies(world.exits[:3]), world.proxies(world.exits[3:6])
    path.write_bytes(b"\xef\xbb\xbf# proxies\r\n" + "\r\n".join(old).encode() + b"\r\n\r\n")
    world.site.on("/page/*", {"like": "ok", "delay": 0.1})
    pages = urls(world, 120)
    settings = through(world, PROXIES="proxies.txt", POLICY="round-robin", CONCURRENT_REQUESTS=3,
                       PROXIES_REFRESH=1)  # fmt: skip
    running = crawl.start(pages, settings)
    while len(running.items()) < 10 and running.process.poll() is None:
        time.sleep(0.05)
    path.write_text("\n".join(new))
    result = running.wait()
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    exits = [visit.exit for visit in world.site.visits]
    assert set(exits[:10]) == set(world.exits[:3])
    assert set(exits[-10:]) == set(world.exits[3:6])
    assert stat(result, "sessions/retired/proxy-gone") == 3


def test_a_new_password_reaches_sessions_that_are_there(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """Sessions go on with it, and no request is lost that was on its way to the gate meanwhile."""
    source = """
import asyncio
class Slow:
    async def process_request(self, request):
        await asyncio.sleep(0.1)
"""
    (crawl.folder / "slow.py").write_text(source)
    world = make_world(4, proxy={"list_auth": "user:old"})
    path = crawl.folder / "proxies.txt"
    old = "\n".join(world.proxies())
    path.write_text(old)
    pages = urls(world, 200)
    running = crawl.start(
        pages, through(world, PROXIES="proxies.txt", PROXIES_REFRESH=1, RETRY_TIMES=20,
                       POLICY="round-robin", CONCURRENT_REQUESTS=4, CLOSESPIDER_TIMEOUT=30,
                       DOWNLOADER_MIDDLEWARES={"slow.Slow": 800}),
    )  # fmt: skip
    while len(running.items()) < 20 and running.process.poll() is None:
        time.sleep(0.05)
    world.proxy.list_auth = "user:new"
    path.write_text(old.replace("user:old", "user:new"))
    result = running.wait()
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert stat(result, "refused") == 0
    assert {passage.password for passage in world.proxy.passages[-20:]} == {"new"}


@pytest.mark.parametrize("coroutine", ["", "async "])
def test_a_callable_gives_proxies(world: World, crawl: Crawler, coroutine: str) -> None:
    """A function of the user's, sync or async, is asked for proxies before the first request."""
    proxies = world.proxies(world.exits[:3])
    source = f"""
import asyncio
{coroutine}def proxies():
    return {proxies!r}
"""
    (crawl.folder / "mine.py").write_text(source)
    pages = urls(world, 9)
    result = crawl(pages, through(world, PROXIES="mine.proxies", POLICY="round-robin"))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert set(by_session(world)) == set(world.exits[:3])


@pytest.mark.parametrize(
    "body", ["raise OSError('no answer')", "return []", "return ['nonsense://']"]
)
def test_an_async_source_that_fails_ends_the_crawl(world: World, crawl: Crawler, body: str) -> None:
    """Without proxies the spider closes before its first request, and says why."""
    source = f"async def proxies():\n    {body}\n"
    (crawl.folder / "mine.py").write_text(source)
    result = crawl([world.direct_url("/page/1")], through(world, PROXIES="mine.proxies"))
    assert "Closing spider (session_filter_no_proxies)" in result.log
    assert "SESSION_FILTER_PROXIES" in result.log
    assert not world.site.visits
    assert result.items == []


@pytest.mark.parametrize(
    "proxies", ["missing.txt", "mine.proxies", "mine.missing", ["socks5://127.0.0.1:1"], []]
)
def test_a_bad_source_stops_the_crawl(
    world: World, crawl: Crawler, proxies: str | list[str]
) -> None:
    """What can be checked at once fails at once: exit code, the setting's name, no request."""
    (crawl.folder / "mine.py").write_text("def proxies():\n    raise OSError('no answer')\n")
    result = crawl([world.direct_url("/page/1")], through(world, PROXIES=proxies))
    assert result.exit_code != 0
    assert "SESSION_FILTER_PROXIES" in result.log
    assert not world.site.visits


def test_nothing_configured_is_no_direct_crawl(world: World, crawl: Crawler) -> None:
    """Without PROXY and PROXIES the crawl does not start; "direct" has to be said."""
    result = crawl([world.direct_url("/page/1")], {"SESSION_FILTER_STORE": "memory:"})
    assert result.exit_code != 0
    assert "SESSION_FILTER_PROXY" in result.log
    assert not world.site.visits


@pytest.mark.direct
def test_direct_sessions_are_visitors_too(world: World, crawl: Crawler) -> None:
    """With PROXY "direct" sessions differ by headers and cookies, and are retired when blocked."""
    world.site.on("/page/*", "forbidden", times=2)
    pages = [world.direct_url(f"/page/{n}") for n in range(12)]
    result = crawl(pages, through(world, PROXY="direct", POLICY="round-robin", MAX_SESSIONS=4))
    assert result.exit_code == 0
    assert set(result.pages) == set(pages)
    assert len(world.site.direct_visits) == 14
    assert stat(result, "sessions/retired/blocked") == 2
    agents: dict[str, set[str]] = {}
    for visit in world.site.visits:
        if visit.headers.get("cookie"):
            agents.setdefault(visit.headers["cookie"], set()).add(visit.headers["user-agent"])
    assert all(len(seen) == 1 for seen in agents.values())
