from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stores.places import MemoryPlace, Place, SQLitePlace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACES = ("memory", "sqlite")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place of each kind."""
    yield from _place(request.param, tmp_path)


@pytest.fixture(params=[name for name in PLACES if name != "memory"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty place of each kind that several owners can use at once."""
    yield from _place(request.param, tmp_path)


def _place(kind: str, directory: Path) -> Iterator[Place]:
    place: Place
    place = MemoryPlace() if kind == "memory" else SQLitePlace(directory / "sessions.sqlite")
    yield place
    place.clean()
