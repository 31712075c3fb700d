"""What a status says when nothing else in the answer does, and the setting that changes it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.verdict import About, Kind, Strength, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

SETTING = "SESSION_FILTER_BLOCK_STATUSES"
_EXPECTED = 'a list of statuses from 100 to 999: ints, ranges as "494-499", or ">=400"'

THROTTLED = frozenset((420, 429, 430, 509, 529))
SITE_TROUBLE = frozenset((408, 425))  # and every other 5xx
#: 4xx that speak of the page or of the request, not of who asked
PAGE_ERRORS = frozenset((400, 404, 410, 411, 413, 414, 415, 416, 417, 422, 424, 426, 428, 431))


@lru_cache(maxsize=2048)  # servers may send any number
def by_status(status: int, retry_after: bool = False) -> Verdict:
    """Return the verdict of an answer of which only the status is known.

    ``retry_after`` says whether the answer brought that header, readable or not. A refusal is weak:
    a block if it repeats where others get through.
    """
    reason = f"status-{status}"
    if status == 407:
        return Verdict(Kind.PROXY_ERROR, reason, about=About.ADDRESS)
    if status in THROTTLED or (status == 503 and retry_after):
        return Verdict(Kind.THROTTLED, reason, about=About.RATE)
    if status in SITE_TROUBLE or 500 <= status < 600:
        return Verdict(Kind.SITE_ERROR, reason)
    if (400 <= status < 500 and status not in PAGE_ERRORS) or status >= 600:
        about = About.COUNTRY if status == 451 else About.VISITOR
        return Verdict(Kind.BLOCKED, reason, Strength.WEAK, about)
    if status >= 400:
        return Verdict(Kind.OK, reason, Strength.WEAK)
    return Verdict(Kind.OK, "ok", Strength.WEAK)


def parse_block_statuses(value: Iterable[Any] | None) -> frozenset[int] | None:
    """Read ``SESSION_FILTER_BLOCK_STATUSES``; None stands for the table above.

    Raises `ConfigurationError` for anything but ints, ranges and lower bounds within 100..999.
    """
    if value is None:
        return None
    if isinstance(value, (str, bytes)):
        raise ConfigurationError(SETTING, value, _EXPECTED)
    try:
        return frozenset(status for item in value for status in _statuses(item))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(SETTING, value, _EXPECTED) from error


def _statuses(item: Any) -> range:
    if isinstance(item, bool) or not isinstance(item, (int, str)):
        raise TypeError
    if isinstance(item, int):
        first = last = item
    elif item.startswith(">="):
        first, last = int(item[2:]), 999
    else:
        start, _, end = item.partition("-")
        first = int(start)
        last = int(end) if end else first
    if not 100 <= first <= last <= 999:
        raise ValueError
    return range(first, last + 1)
