"""Find which of many literals a text contains, at a cost that hardly grows with their number.

The text is read as a row of 4-byte numbers. A literal of 7 bytes or more, wherever it stands,
covers at least one of them whole; which ones depends only on the four ways it can lie across the
row. So the numbers of the text are met once with those of all literals, and only a literal whose
numbers are all there is really looked for. This is the q-gram filter of approximate string
matching (Ukkonen 1992) on fixed positions: one set lookup for every four bytes of text.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

Key = TypeVar("Key")

_GRAM = 4
_SHORTEST = 2 * _GRAM - 1
#: bytes that pages are full of: a number made of them says little
_COMMON = b'etaoinsrhldcum "=/<>.-:'


class Finder(Generic[Key]):
    """Literals, each with a key; `find` returns the keys of those that a text contains."""

    def __init__(self, literals: Iterable[tuple[bytes, Key]]) -> None:
        self._short: list[tuple[bytes, Key]] = []
        self._by_rarest: dict[int, list[tuple[tuple[int, ...], bytes, Key]]] = {}
        grams: set[int] = set()
        for literal, key in literals:
            if len(literal) < _SHORTEST:
                self._short.append((literal, key))
                continue
            for shift in range(_GRAM):
                covered = _covered(literal, shift)
                grams.update(covered)
                rarest = max(covered, key=lambda gram: len(covered[gram].translate(None, _COMMON)))
                # tuples: the garbage collector does not come back to those, as to sets it does
                entry = (tuple(covered), literal, key)
                self._by_rarest.setdefault(rarest, []).append(entry)
        self._grams = frozenset(grams)

    def find(self, text: bytes) -> list[Key]:
        """Return the keys of the literals in ``text``, in no order."""
        found = [key for literal, key in self._short if literal in text]
        seen = self._grams.intersection(array("I", text[: len(text) - len(text) % _GRAM]))
        possible = {
            (literal, key)
            for gram in seen & self._by_rarest.keys()
            for needed, literal, key in self._by_rarest[gram]
            if seen.issuperset(needed)
        }
        return found + [key for literal, key in possible if literal in text]


def _covered(literal: bytes, shift: int) -> dict[int, bytes]:
    """Return the numbers that a literal covers whole if the first begins at ``shift``."""
    starts = range(shift, len(literal) - _GRAM + 1, _GRAM)
    grams = [literal[start : start + _GRAM] for start in starts]
    return {array("I", gram)[0]: gram for gram in grams}
