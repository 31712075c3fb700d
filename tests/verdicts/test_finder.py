"""The literal search against the plain one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scrapy_session_filter.verdicts.finder import Finder

SMALL = st.binary(max_size=40).map(lambda text: bytes(byte % 4 + 97 for byte in text))


@given(st.lists(SMALL.filter(bool), max_size=12), st.lists(SMALL, max_size=6))
def test_finds_what_in_finds(literals: list[bytes], parts: list[bytes]) -> None:
    """It finds exactly the literals that ``in`` finds, however they lie in the text."""
    text = b"".join(parts)
    finder = Finder((literal, n) for n, literal in enumerate(literals))
    assert set(finder.find(text)) == {n for n, literal in enumerate(literals) if literal in text}


@given(st.integers(0, 9), SMALL, st.binary(min_size=1, max_size=30))
def test_at_any_place(shift: int, before: bytes, literal: bytes) -> None:
    """A literal is found at every offset."""
    finder = Finder([(literal, "it")])
    assert "it" in finder.find(b"." * shift + before + literal + b"!")
