"""What a Retry-After header is worth."""

from __future__ import annotations

import pytest

from scrapy_session_filter.verdict import Kind
from scrapy_session_filter.verdicts import Judge
from scrapy_session_filter.verdicts.retry_after import LIMIT, parse_retry_after

from .pages import answer

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7.5 ", 7.5),
        ("-5", 0.0),
        ("3600", 3600.0),
        ("999999999", LIMIT),
        ("1e400", LIMIT),
        ("Sun, 06 Nov 1994 08:49:57 GMT", 20.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Sun, 06 Nov 2094 08:49:37 GMT", LIMIT),
        ("Sunday, 06-Nov-94 08:49:57 GMT", 20.0),
        ("Sun Nov  6 08:49:57 1994", 20.0),
    ],
)
def test_seconds_and_dates(value: str, seconds: float) -> None:
    """Seconds and HTTP dates are read, and kept within an hour."""
    assert parse_retry_after(value, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "soon", "nan", "-nan", "12 minutes", "Sun, 99 Nov 1994", "\x00", "1" * 60 + "x"]
)
def test_garbage(value: str) -> None:
    """Garbage asks for nothing."""
    assert parse_retry_after(value, NOW) is None


def test_on_a_block() -> None:
    """A block, too, carries how long the site wants to be left alone; a good page does not."""
    judge = Judge()
    assert judge.answer(answer(b"", 403, retry_after="30")).retry_after == 30.0
    assert judge.answer(answer(b"", 429, retry_after="99999")).retry_after == LIMIT
    page = judge.answer(answer(b"", 200, retry_after="30"))
    assert (page.kind, page.retry_after) == (Kind.OK, None)
