"""A set that can be drawn from at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

T = TypeVar("T")


class SampleSet(Generic[T]):
    """A set with add, discard and a uniform random draw in O(1).

    Members are compared by identity or hash, as in a `set`.
    """

    __slots__ = ("_members", "_places")

    def __init__(self) -> None:
        self._members: list[T] = []
        self._places: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: T) -> bool:
        return member in self._places

    def __iter__(self) -> Iterator[T]:
        return iter(self._members)

    def __getitem__(self, index: int) -> T:
        return self._members[index]

    @property
    def members(self) -> Sequence[T]:
        """The members in no particular order: a view, to be read at once and not to be changed."""
        return self._members

    def add(self, member: T) -> None:
        """Add a member; adding it twice changes nothing."""
        if member not in self._places:
            self._places[member] = len(self._members)
            self._members.append(member)

    def discard(self, member: T) -> None:
        """Remove a member if it is one."""
        place = self._places.pop(member, None)
        if place is None:
            return
        last = self._members.pop()
        if place < len(self._members):  # it was not the last itself
            self._members[place] = last
            self._places[last] = place

    def draw(self, rng: Random, refuse: Callable[[T], bool] | None = None) -> T | None:
        """Return a random member, or None if there is none that ``refuse`` lets pass.

        With ``refuse`` it looks on from a random place until one passes: O(refused members).
        """
        members = self._members
        count = len(members)
        if not count:
            return None
        start = int(rng.random() * count)
        if refuse is None:
            return members[start]
        for step in range(count):
            member = members[(start + step) % count]
            if not refuse(member):
                return member
        return None
