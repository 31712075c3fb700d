"""Any bytes, any headers, any encoding: a verdict, never an exception."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scrapy.http import Headers, Response, TextResponse

from scrapy_session_filter.verdict import Verdict
from scrapy_session_filter.verdicts import Answer, Judge, judge
from scrapy_session_filter.verdicts.answer import EDGE, HEAD, SHORT, TAIL
from scrapy_session_filter.verdicts.judging import RULES

JUDGE, OTHER = Judge(), Judge()
LITERALS = [rule.literal.encode() for rule in RULES]
PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(LITERALS),
    st.sampled_from([b"<title>", b"</title>", b"<script>", b"<!--", b"-->", b"<", b"\0"]),
    st.sampled_from([b"&#x110000;", b"&", b"\xff\xfe", b"{", b"<?xml"]),
)
BODIES = st.lists(PIECES, max_size=30).map(b"".join)
HEADER_NAMES = st.sampled_from(
    [
        *(b"Content-Type", b"Content-Encoding", b"Location", b"Set-Cookie", b"Retry-After"),
        *(b"X-Squid-Error", b"Proxy-Status", b"Www-Authenticate", b"Cf-Mitigated", b"Server"),
    ]
)
HEADERS = st.dictionaries(HEADER_NAMES, st.lists(st.binary(max_size=40), max_size=3), max_size=6)
CODINGS = st.sampled_from([b"gzip", b"deflate", b"br", b"zstd", b"x", b"gzip,br", b",,"])


@given(st.integers(100, 999), HEADERS, BODIES, st.text(max_size=30))
def test_any_answer(status: int, headers: dict[bytes, list[bytes]], body: bytes, path: str) -> None:
    """Whatever a site sends, there is a verdict with short, printable fields."""
    response = Response("https://x.example/" + path, status, Headers(headers), body)
    verdict = judge(response)
    assert isinstance(verdict, Verdict)
    assert len(verdict.evidence or "") <= 80
    assert verdict.retry_after is None or 0 <= verdict.retry_after <= 3600


@given(CODINGS, st.binary(max_size=200))
def test_any_coding(coding: bytes, body: bytes) -> None:
    """Whatever is behind a Content-Encoding, there is a verdict."""
    response = TextResponse("https://x.example", headers={b"Content-Encoding": coding}, body=body)
    assert isinstance(judge(response), Verdict)


@given(st.binary(max_size=300), st.integers(-5, 2000), st.text(max_size=60), st.text(max_size=60))
def test_any_url(body: bytes, status: int, url: str, location: str) -> None:
    """Whatever URLs look like, there is a verdict."""
    page = Answer(status, {"location": [location]}, body, url, redirects=(location,))
    assert isinstance(JUDGE.answer(page), Verdict)


@given(BODIES, st.integers(1, 400), st.sampled_from([200, 302, 403, 404, 503]))
def test_bounded_look(body: bytes, times: int, status: int) -> None:
    """No more than the windows is ever looked at, however long the body."""
    page = Answer(status, {}, body * times)
    assert len(page.text) <= max(SHORT, HEAD + TAIL + 1, 2 * EDGE + 1)
    assert len(page.title) <= 200
    assert isinstance(JUDGE.answer(page), Verdict)


@given(BODIES, st.sampled_from([200, 403]))
def test_same_answer_same_verdict(body: bytes, status: int) -> None:
    """A verdict depends on the answer alone."""
    assert JUDGE.answer(Answer(status, {}, body)) == OTHER.answer(Answer(status, {}, body))
