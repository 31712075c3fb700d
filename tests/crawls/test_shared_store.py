"""Several crawls on one store: each proxy of the list is one crawl's at a time, seen from the site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crawls.fleet import Fleet, assert_apart
from tests.crawls.scenery import assert_clean
from tests.stores.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback import World

LATENCY = 0.1  # seconds each answer takes, so that visits at the same time can be seen


@pytest.fixture
def slow_world(make_world: Callable[..., World]) -> World:
    return make_world(12, latency=LATENCY)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Redis server of the test's own."""
    server = Server(tmp_path)
    yield server
    server.thaw()
    server.end()


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'sessions.sqlite'}"
    server: Server = request.getfixturevalue("server")
    return server.uri


def test_a_second_crawl_gets_its_share(slow_world: World, tmp_path: Path, store: str) -> None:
    """A crawl alone has the whole list; one that starts beside it has half of it within 5 s."""
    world = slow_world
    with Fleet(world, tmp_path, store, POLICY="random") as fleet:
        one = fleet.start("one", 800)
        fleet.wait_for(lambda: len(fleet.exits("one")) == 12)
        two = fleet.start("two", 300)
        started = fleet.wait_for(lambda: "Spider opened" in two.log())
        shared = fleet.wait_for(lambda: len(fleet.exits("two")) == 6)
        assert shared - started < 5
        assert_clean(world, two.wait())
        assert_clean(world, one.wait())
        assert_apart(world, LATENCY)
        assert len(fleet.exits("two")) == 6
