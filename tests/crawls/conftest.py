"""A slow world and a Redis server, for several crawls on one store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crawls.fleet import LATENCY
from tests.stores.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback import World


@pytest.fixture
def slow_world(make_world: Callable[..., World]) -> World:
    """A world of 12 proxies in which each answer takes `LATENCY`."""
    return make_world(12, latency=LATENCY)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Redis server of the test's own."""
    server = Server(tmp_path)
    yield server
    server.thaw()
    server.end()
