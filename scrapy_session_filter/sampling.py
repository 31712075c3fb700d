"""A set that can be drawn from at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

T = TypeVar("T")


class SampleSet(Generic[T]):
    """A set with add, discard and a uniform random draw in O(1).

    Members are compared by identity or hash, as in a `set`.
    """

    __slots__ = ("_places", "members")

    def __init__(self) -> None:
        #: in no particular order: to be read at once and not to be changed
        self.members: list[T] = []
        self._places: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, member: T) -> bool:
        return member in self._places

    def __iter__(self) -> Iterator[T]:
        return iter(self.members)

    def __getitem__(self, index: int) -> T:
        return self.members[index]

    def add(self, member: T) -> None:
        """Add a member; adding it twice changes nothing."""
        if member not in self._places:
            self._places[member] = len(self.members)
            self.members.append(member)

    def discard(self, member: T) -> None:
        """Remove a member if it is one."""
        place = self._places.pop(member, None)
        if place is None:
            return
        last = self.members.pop()
        if place < len(self.members):  # it was not the last itself
            self.members[place] = last
            self._places[last] = place

    def draw(self, rng: Random, refuse: Callable[[T], bool] | None = None) -> T | None:
        """Return a random member, or None if there is none that ``refuse`` lets pass.

        With ``refuse`` it looks on from a random place until one passes: O(refused members).
        """
        members = self.members
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
