from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from tests.stores.places import MemoryPlace, Place, RedisPlace, SQLitePlace
from tests.stores.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis server for all tests that do it no harm."""
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.end()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place of each kind."""
    place = _place(request, tmp_path)
    yield place
    place.clean()


@pytest.fixture(params=["sqlite", "redis"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place of each kind that several owners can use at once."""
    place = _place(request, tmp_path)
    yield place
    place.clean()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory in memory where there is one: what survives a kill needs no real disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def _place(request: pytest.FixtureRequest, directory: Path) -> Place:
    if request.param == "memory":
        return MemoryPlace()
    if request.param == "sqlite":
        return SQLitePlace(directory / "sessions.sqlite")
    server: Server = request.getfixturevalue("redis_server")
    return RedisPlace(server.uri)
