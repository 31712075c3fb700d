"""The verdict table row by row, and the setting that replaces its blocks."""

from __future__ import annotations

import pytest

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.verdict import About, Kind, Strength
from scrapy_session_filter.verdicts import Judge
from scrapy_session_filter.verdicts.statuses import by_status

from .pages import answer, html

JUDGE = Judge()
REFUSED = [401, 403, 405, 406, 409, 412, 418, 421, 423, 451, 460, *range(494, 500), 999, 444, 477]


@pytest.mark.parametrize("status", REFUSED)
def test_refusal(status: int) -> None:
    """A refusal without evidence is a weak block, named after its status."""
    verdict = JUDGE.answer(answer(html("<p>Sorry</p>"), status, url="https://shop.example/"))
    assert (verdict.kind, verdict.strength) == (Kind.BLOCKED, Strength.WEAK)
    assert verdict.reason == f"status-{status}"


@pytest.mark.parametrize("status", [429, 430, 420, 509, 529])
def test_throttle(status: int) -> None:
    """Too fast is about the rate, not about the visitor."""
    verdict = JUDGE.answer(answer(html("<p>Sorry</p>"), status))
    assert (verdict.kind, verdict.about) == (Kind.THROTTLED, About.RATE)


def test_503() -> None:
    """A 503 is the site's trouble, or a throttle if it says when to come back."""
    assert JUDGE.answer(answer(b"", 503)).kind is Kind.SITE_ERROR
    throttled = JUDGE.answer(answer(b"", 503, retry_after="12"))
    assert (throttled.kind, throttled.retry_after) == (Kind.THROTTLED, 12.0)
    unreadable = JUDGE.answer(answer(b"", 503, retry_after="soon"))
    assert (unreadable.kind, unreadable.retry_after) == (Kind.THROTTLED, None)


def test_407() -> None:
    """A 407 is the proxy's, whatever statuses are listed as blocks."""
    for judge in (JUDGE, Judge(block_statuses=[407, ">=400"])):
        verdict = judge.answer(answer(b"", 407))
        assert (verdict.kind, verdict.about) == (Kind.PROXY_ERROR, About.ADDRESS)


@pytest.mark.parametrize(
    "status", [500, 501, 502, 504, 505, 408, 425, 520, 521, 522, 523, 525, 530]
)
def test_site_trouble(status: int) -> None:
    """Other server errors are nobody's fault."""
    assert JUDGE.answer(answer(html("<p>Error</p>"), status)).kind is Kind.SITE_ERROR


PAGE_ERRORS = [400, 404, 410, 411, 413, 414, 415, 416, 417, 422, 424, 426, 428, 431]


@pytest.mark.parametrize("status", [200, 201, 204, 206, 301, 304, *PAGE_ERRORS])
def test_page(status: int) -> None:
    """Errors of the page or of the request, and everything else, are OK for the session."""
    assert JUDGE.answer(answer(html("<p>Here you are</p>"), status)).kind is Kind.OK


@pytest.mark.parametrize("status", [0, -1, 99, 600, 1000, 10**9])
def test_status_of_no_kind(status: int) -> None:
    """A status that does not exist gets a verdict too."""
    assert by_status(status).kind in (Kind.OK, Kind.BLOCKED)


def test_listed_statuses() -> None:
    """A list replaces the blocks of the table: what is on it is strong, what is not is a page."""
    judge = Judge(block_statuses=[404, "494-499", "511-511"])
    for status in (404, 494, 499, 511):
        verdict = judge.answer(answer(b"", status))
        assert (verdict.kind, verdict.strength) == (Kind.BLOCKED, Strength.STRONG), status
    assert judge.answer(answer(b"", 403)).kind is Kind.OK
    assert judge.answer(answer(b"", 500)).kind is Kind.SITE_ERROR
    assert judge.answer(answer(b"", 429)).kind is Kind.THROTTLED


def test_every_error_listed() -> None:
    """``>=400`` is the plain rule: every error but 407 is a block, explained or not."""
    judge = Judge(block_statuses=[">=400"])
    for status in (400, 404, 429, 500, 503, 999):
        assert judge.answer(answer(b"", status)).kind is Kind.BLOCKED, status
    assert judge.answer(answer(b'{"error": "no"}', 403)).kind is Kind.BLOCKED
    assert judge.answer(answer(b"", 200)).kind is Kind.OK


def test_evidence_counts_beside_a_list() -> None:
    """A challenge is a block whatever statuses are listed, and keeps its vendor where listed."""
    page = html("<p>Wait</p>", "Just a moment...")
    for statuses in ([], [403], [404]):
        assert Judge(block_statuses=statuses).answer(answer(page, 403)).vendor == "cloudflare"


@pytest.mark.parametrize(
    "value",
    [
        "403",
        b"403",
        403,
        [99],
        [1000],
        ["500-400"],
        ["abc"],
        [">=x"],
        [None],
        [True],
        [4.5],
        ["-1"],
    ],
)
def test_bad_statuses(value: object) -> None:
    """A list that cannot be used is refused with the setting, the value and what was expected."""
    with pytest.raises(
        ConfigurationError, match=r"SESSION_FILTER_BLOCK_STATUSES.*494-499"
    ) as raised:
        Judge(block_statuses=value)  # type: ignore[arg-type]
    assert raised.value.value == value
