"""Whether a text could hold any of many literals, by its words: a quick no for most texts.

A text of a kilobyte has some 150 words. They are split off in one pass, and met once with the rarest
word of each literal; only where one is there are the literal's other words asked for. A literal's
rarest word counts as a whole one, also where the literal begins or ends with it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LETTERS = b"abcdefghijklmnopqrstuvwxyz0123456789_" + bytes(range(128, 256))
#: upper case to lower case, and whatever is in no word to a space
_FOLD = bytes(
    byte if byte in _LETTERS else byte + 32 if 65 <= byte <= 90 else 32 for byte in range(256)
)
#: what stands around words in UTF-8: curly quotes, dashes, dots, and the space that does not break
_MARKS = (b"\xe2\x80\x9c", b"\xe2\x80\x98", b"\xc2\xab", b"\xe2\x80", b"\xc2\xbb", b"\xc2\xa0")
#: how UTF-8 begins the letters of languages that put no space between words, or half of one
_UNSPACED = bytes(range(0xE0, 0xE2)) + bytes(range(0xE3, 0xF0))


class Words:
    """Literals by their words: lower-case UTF-8, each with what must be there beside it.

    Those in languages without spaces are not asked for: texts that may hold them are never answered
    with no. ``parts`` are looked for as they are, letter by letter; each is enough.
    """

    def __init__(self, literals: Iterable[tuple[bytes, ...]], parts: Iterable[bytes] = ()) -> None:
        self._parts = tuple(_folded(part) for part in parts)
        #: what a text must have beside a rarest word: words, and ends that may be parts of words
        needed: dict[bytes, set[tuple[tuple[bytes, ...], tuple[bytes, ...]]]] = {}
        for together in literals:
            phrases = [words for literal in together if (words := _folded(literal).split())]
            if not phrases or any(map(_is_unspaced, together)):
                continue
            rarest = max((word for words in phrases for word in words), key=_rareness)
            edges = {word for words in phrases for word in (words[0], words[-1])} - {rarest}
            inner = {word for words in phrases for word in words[1:-1]}
            needed.setdefault(rarest, set()).add((tuple(sorted(inner)), tuple(sorted(edges))))
        # tuples: the garbage collector does not come back to those, as to sets it does
        self._needed = {rarest: tuple(beside) for rarest, beside in needed.items()}
        self._rarest = frozenset(needed)

    def may_hold(self, text: bytes) -> bool:
        """Return whether some literal's words are all in ``text``; True where that cannot be told.

        Letters may hide behind entities, and not all languages put spaces between words.
        """
        if b"&#" in text:
            return True
        if not text.isascii():
            if _is_unspaced(text):
                return True
            text = text.decode("utf-8", "replace").lower().encode()
        text = _folded(text)
        if self._parts and any(part in text for part in self._parts):
            return True
        words = text.split()
        if self._rarest.isdisjoint(words):
            return False
        seen = frozenset(words)
        return any(
            seen.issuperset(inner) and all(edge in text for edge in edges)
            for rarest in seen & self._rarest
            for inner, edges in self._needed[rarest]
        )


@lru_cache(maxsize=4096)
def _rareness(word: bytes) -> tuple[bool, bool, int]:
    return word not in _COMMON, not word.isdigit() or len(word) >= _CODE, len(word)


_CODE = 4  # digits of an error code, such as 1020
#: words of literals that ordinary pages are full of, too
_COMMON = frozenset(
    (
        b"a access account address and application are browser button cloudflare code com complete "
        b"container content cookie cookies country document error for form from google have href "
        b"html http https id in input is javascript location name not of on open page password "
        b"please reference replace request requests script security server service site src storage "
        b"support text that the this to translate type url used user var verification website "
        b"window with you your"
    ).split()
)


def _folded(text: bytes) -> bytes:
    if not text.isascii():
        for mark in _MARKS:
            text = text.replace(mark, b" ")
    return text.translate(_FOLD)


def _is_unspaced(text: bytes) -> bool:
    return not text.isascii() and len(text.translate(None, _UNSPACED)) < len(text)
