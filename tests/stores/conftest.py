from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from tests.stores.places import MemoryPlace, Place, SQLitePlace

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = ("memory", "sqlite")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place of each kind."""
    yield from _place(request.param, tmp_path)


@pytest.fixture(params=[name for name in PLACES if name != "memory"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place of each kind that several owners can use at once."""
    yield from _place(request.param, tmp_path)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory in memory where there is one: what survives a kill needs no real disk."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def _place(kind: str, directory: Path) -> Iterator[Place]:
    place: Place
    place = MemoryPlace() if kind == "memory" else SQLitePlace(directory / "sessions.sqlite")
    yield place
    place.clean()
