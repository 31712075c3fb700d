"""Tunnels to https sites, which have a certificate nobody vouches for."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.crawls.scenery import assert_clean, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler


def test_a_tunnel_belongs_to_one_session(make_world: Callable[..., World], crawl: Crawler) -> None:
    """Connections are kept alive, and none ever carries requests of two sessions."""
    world = make_world(40, proxy={"in_turn": True})
    world.site.on("/page/1", "forbidden", times=2)
    pages = urls(world, 60, https=True)
    result = crawl(pages, through(world, POLICY="round-robin", MAX_SESSIONS=6))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    tunnels = defaultdict(set)
    for passage in world.proxy.passages:
        assert passage.method == "CONNECT"
        tunnels[passage.connection].add(passage.user)
    assert all(len(users) == 1 for users in tunnels.values())
    visitors = defaultdict(set)
    for visit in world.site.visits:
        assert "proxy-authorization" not in visit.headers
        visitors[visit.connection].add((visit.exit, visit.headers["user-agent"]))
    assert all(len(seen) == 1 for seen in visitors.values())
    assert len(visitors) < len(world.site.visits)


def test_kept_connections_carry_each_sessions_own_credentials(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """Plain http requests of many sessions share a gateway's connections, but nothing else."""
    world = make_world(40, proxy={"in_turn": True})
    pages = urls(world, 60)
    result = crawl(pages, through(world, POLICY="round-robin", MAX_SESSIONS=6))
    assert_clean(world, result)
    by_target = {passage.target: passage.session for passage in world.proxy.passages}
    assert {url: item["session"] for url, item in result.pages.items()} == by_target
    agents = defaultdict(set)
    for visit in world.site.visits:
        agents[visit.exit].add(visit.headers["user-agent"])
    assert all(len(seen) == 1 for seen in agents.values())
    assert len(agents) == 6
