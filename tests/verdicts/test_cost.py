"""What judging costs, whatever is sent."""

from __future__ import annotations

import gzip
import time
from typing import TYPE_CHECKING

import pytest
from scrapy.http import Headers, HtmlResponse

from benchmarks.detect_cost import LINK, SCRIPT, SENTENCE, page
from scrapy_session_filter.verdicts import Judge

if TYPE_CHECKING:
    from collections.abc import Callable

JUDGE = Judge()
HUGE = 64 << 20  # bytes
LITERALS = b" ".join(rule.literal.encode() for rule in JUDGE.book.rules)
PARTS = [
    *(b" ", b"<", b"a", b"\0", b"&", b"&#39;", b"</a", b"<i>", b"{", b"captcha ", b"<title"),
    *(b"<!--", b"<!---->", b"<script>", b"<script></script>", b"<style></style>"),
    *(b"<script></script><!----><style></style><", b"<p>not a robot, verify you are human"),
    *("я ".encode(), "请".encode(), LITERALS),
]
UNIT = bytes(20_000)


def milliseconds(run: Callable[[], object]) -> float:
    """Return how long one call takes on an idle machine of 2020: what it takes here, scaled."""

    def once(times: int, what: Callable[[], object]) -> float:
        start = time.process_time()
        for _ in range(times):
            what()
        return (time.process_time() - start) / times

    ratios = [once(1, run) / max(once(30, UNIT.lower), 1e-7) for _ in range(5)]
    return 6e-3 * min(ratios)  # that machine lowers 20 kB in 6 microseconds


def judged(response: HtmlResponse) -> float:
    """Return the milliseconds of one judgement."""
    return milliseconds(lambda: JUDGE.response(response))


@pytest.mark.parametrize("part", PARTS, ids=range(len(PARTS)))
def test_hostile_bodies(part: bytes) -> None:
    """Of no body, long or short, does judging take more than 5 ms."""
    endless = part * (HUGE // len(part))
    for body in (endless, endless[:100_000], endless[:24_000], endless[:4_000]):
        for status in (200, 403):
            response = HtmlResponse("https://x.example", status, body=body)
            assert judged(response) <= 5


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_bombs(coding: str) -> None:
    """A few bytes that would become 64 MB cost no more."""
    if coding == "gzip":
        body = gzip.compress(b" " * HUGE, 1)
    else:
        body = pytest.importorskip("brotli").compress(b" " * HUGE, quality=2, lgwin=24)
    response = HtmlResponse("https://x.example", headers={"Content-Encoding": coding}, body=body)
    assert judged(response) <= 5


def test_ordinary_pages() -> None:
    """A small page takes a few dozen microseconds at most, a long one no more than that."""
    headers = Headers({"Content-Type": "text/html", "Server": "nginx", "Date": "today"})
    for part in (LINK, SENTENCE, SCRIPT):
        for size, most in ((1_000, 0.1), (60_000, 0.25)):
            response = HtmlResponse("https://x.example", headers=headers, body=page(size, part))
            assert judged(response) <= most


def test_huge_header() -> None:
    """Tens of thousands of cookies are read only so far."""
    response = HtmlResponse(
        "https://x.example", headers={"Set-Cookie": [f"c{n}=1" for n in range(50_000)]}
    )
    assert judged(response) <= 5
