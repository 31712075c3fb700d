"""The quick no for most texts, and what it remembers of the pages before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scrapy_session_filter.verdicts.words import _REMEMBERED, Words

LITERALS = ((b"you have been blocked", b""), (b"captcha", b"solve this"), (b"access gesperrt", b""))
PIECES = st.sampled_from(
    [
        *(b"<p>", b"</p>", b"<li class=nav>", b"Home ", b"oak chair ", b"blocked", b" captcha "),
        *(b"you have been ", b"SOLVE", b" this", b"access ", b"gesperrt", b"&#39;", b"x" * 300),
        *("\u212a".encode(), "é ".encode(), "请".encode()),
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map(b"".join)
USED = Words(LITERALS)


@given(TEXTS)
def test_memory_changes_nothing(text: bytes) -> None:
    """Whatever was seen before, the answer is that of one who sees a text for the first time."""
    assert USED.may_hold(text) == Words(LITERALS).may_hold(text)
    assert USED.may_hold(text) == Words(LITERALS).may_hold(text)


def test_apart() -> None:
    """A literal's words count together also where some stand in pieces that were met before."""
    words = Words(LITERALS)
    assert not words.may_hold(b"<h1>you have been<p>here before")
    assert words.may_hold(b"<h1>you have been<p>blocked")
    assert not words.may_hold(b"<h1>you have<p>blocked")


def test_own_parts_span_pieces() -> None:
    """A part that is looked for as it is may hold markup."""
    words = Words((), [b"</i><b>wall"])
    assert not words.may_hold(b"<i>a</i><b>door</b>")
    assert words.may_hold(b"<i>a</i><b>wall</b>")


def test_memory_is_bounded() -> None:
    """However many pages come, only so many short pieces are kept."""
    words = Words(LITERALS)
    for page in range(200):
        assert not words.may_hold(b"".join(b"<p>%d %d" % (page, n) for n in range(50)))
        assert not words.may_hold(b"<p>" + b"%d " % page * 200)
    assert len(words._plain) <= _REMEMBERED
    assert max(map(len, words._plain)) <= 256
