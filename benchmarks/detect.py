"""The shipped judge in the form that page collections are scored with.

``classify(status, headers, body, url)`` returns the verdict's kind and vendor, ``is_block`` whether
the page was withheld. ``headers`` map lower-case names to a text or a list of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_session_filter.verdicts import Answer, Judge, Verdict
from scrapy_session_filter.verdicts.headers import plain_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

_JUDGE = Judge()


def verdict(status: int, headers: Mapping[str, str], body: bytes, url: str) -> Verdict:
    """Judge a page whose body is decoded already."""
    return _JUDGE.answer(Answer(status, plain_headers(headers), body, url))


def classify(
    status: int, headers: Mapping[str, str], body: bytes, url: str
) -> tuple[str, str | None]:
    """Return kind and vendor, such as ``("BLOCKED", "cloudflare")``."""
    found = verdict(status, headers, body, url)
    return found.kind.value, found.vendor


def is_block(status: int, headers: Mapping[str, str], body: bytes, url: str) -> bool:
    """Whether this visitor was refused: BLOCKED or THROTTLED."""
    return verdict(status, headers, body, url).is_block
