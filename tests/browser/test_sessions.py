"""A session is a browser context of its own."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.browser.identities import version
from tests.browser.scenery import PATIENCE, assert_tidy, browsing, by_browser, ignoring_certificates
from tests.crawls.scenery import cookie, stat, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import Visit, World

    from tests.world.crawls import Crawler

TWO_SYSTEMS = "tests.browser.identities.two_systems"


def by_exit(world: World) -> dict[str, list[Visit]]:
    """Visits grouped by exit: each session has one of its own where they are handed out in turn."""
    groups: dict[str, list[Visit]] = defaultdict(list)
    for visit in world.site.visits:
        groups[visit.exit].append(visit)
    return groups


def assert_unmixed(world: World) -> None:
    """At each exit there was one User-Agent, and cookies that no other exit brought."""
    seen: dict[str, str] = {}
    for exit_, visits in by_exit(world).items():
        assert len({visit.headers["user-agent"] for visit in visits}) == 1
        assert len({visit.headers.get("accept-language") for visit in visits}) == 1
        for value in {cookie(visit) for visit in visits} - {""}:
            assert seen.setdefault(value, exit_) == exit_


@pytest.mark.parametrize("https", [False, True])
def test_two_sessions(make_world: Callable[..., World], crawl: Crawler, https: bool) -> None:
    """Two sessions go through two authenticating exits with their own User-Agents and cookies."""
    world = make_world(2, proxy={"in_turn": True, "password": "secret"})
    settings = browsing(
        world,
        POLICY="round-robin",
        MAX_SESSIONS=2,
        IDENTITY=TWO_SYSTEMS,
        CONCURRENT_REQUESTS=2,
        SESSION_FILTER_BROWSER_CONTEXT=ignoring_certificates(),
    )
    requests = by_browser(urls(world, 8, https=https))
    result = crawl(requests, settings, timeout=PATIENCE)
    assert_tidy(world, result)
    assert_unmixed(world)
    assert len(result.pages) == 8
    visits = by_exit(world)
    assert {exit_: len(visits[exit_]) for exit_ in world.exits} == dict.fromkeys(world.exits, 4)
    assert len({visits[exit_][0].headers["user-agent"] for exit_ in world.exits}) == 2
    for exit_ in world.exits:
        assert sum(not cookie(visit) for visit in visits[exit_]) <= 2  # those that were out first
        assert visits[exit_][0].headers["accept-language"] == "en-US,en;q=0.9"
        assert ("sec-ch-ua-platform" in visits[exit_][0].headers) == https
    users = {passage.user for passage in world.proxy.passages}
    assert users - {None} == {  # Chromium asks without a password first
        f"user-session-{page['session']}" for page in result.pages.values()
    }


def test_blocks_beyond_the_most_contexts(make_world: Callable[..., World], crawl: Crawler) -> None:
    """200 pages come through 20 sessions of which 5 are blocked, four contexts at a time."""
    world = make_world(60, proxy={"in_turn": True})
    world.ban(world.exits[:2], "forbidden")
    world.ban(world.exits[2:4], "captcha")
    world.ban(world.exits[4:5], "captcha-redirect")
    settings = browsing(
        world,
        POLICY="random",
        MAX_SESSIONS=20,
        IDENTITY=TWO_SYSTEMS,
        CONCURRENT_REQUESTS=4,
        PLAYWRIGHT_MAX_CONTEXTS=4,
    )
    pages = urls(world, 200)
    result = crawl(by_browser(pages), settings, timeout=PATIENCE)
    assert_tidy(world, result)
    assert_unmixed(world)
    assert set(result.pages) == set(pages)
    assert {page["status"] for page in result.pages.values()} == {200}
    assert stat(result, "sessions/retired/blocked") == 5
    assert len(by_exit(world)) >= 20
    assert result.stats["watch/most_contexts"] <= 4
    assert result.reason == "finished"
    assert version() in world.site.visits[0].headers["user-agent"]
