"""What the user says a good page must hold."""

from __future__ import annotations

import gzip
import logging
from typing import Any

import pytest
from scrapy.http import Response

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.verdict import Kind, Strength
from scrapy_session_filter.verdicts import Answer, Judge
from scrapy_session_filter.verdicts.decoding import DECODED_LIMIT

from .pages import html

EXPECT: dict[str, Any] = {
    r"/item/\d+": {"css": ["h1.name", "span.price"], "min_size": 60},
    r"api\.example": {"bytes": b'"items":'},
    r"/list": {"bytes": [b"<li", b"</ul>"]},
}
JUDGE = Judge(expect=EXPECT)
GOOD = html('<h1 class="name">Lamp</h1><span class="price">9</span>', "Lamp")


def verdict(url: str, body: bytes, status: int = 200, **answer: Any) -> Any:
    return JUDGE.answer(Answer(status, {}, body, url, **answer))


def test_as_expected() -> None:
    """A page that holds all that is expected is good, and surely so."""
    found = verdict("https://shop.example/item/7", GOOD)
    assert (found.kind, found.strength, found.reason) == (Kind.OK, Strength.STRONG, "as-expected")


@pytest.mark.parametrize(
    ("url", "body", "missing"),
    [
        ("https://shop.example/item/7", GOOD.replace(b"price", b"prize"), "css span.price"),
        ("https://shop.example/item/7", b"<h1 class=name><b class=price>", "60 bytes"),
        ("https://api.example/x", b'{"error": 1}', '"items":'),
        ("https://shop.example/list", b"<ul><li></li>", "</ul>"),
        ("https://shop.example/item/7", b"", "60 bytes"),
    ],
)
def test_missing(url: str, body: bytes, missing: str) -> None:
    """What is missing makes a soft block, and is named."""
    found = verdict(url, body)
    assert (found.kind, found.strength) == (Kind.BLOCKED, Strength.WEAK)
    assert found.reason == "expected-missing"
    assert missing in found.evidence


def test_nothing_expected() -> None:
    """Other URLs, errors, HEAD and unreadable bodies are judged as ever."""
    assert verdict("https://shop.example/about", b"x").reason == "ok"
    assert verdict("https://shop.example/item/7", b"x", 404).kind is Kind.OK
    assert verdict("https://shop.example/item/7", b"", method="HEAD").reason == "ok"
    assert JUDGE.answer(Answer(200, {}, None, "https://shop.example/item/7")).reason == "ok"


def test_known_block_is_named() -> None:
    """A challenge keeps its vendor, though the expected is missing too."""
    page = html("<p>Wait</p>", "Just a moment...")
    assert verdict("https://shop.example/item/7", page).vendor == "cloudflare"


def test_beginning_of_a_long_body() -> None:
    """What may stand in the part that was not decoded is not missing."""
    body = gzip.compress(b"<ul><li></li>" + b"." * DECODED_LIMIT + b"</ul>")
    response = Response(
        "https://shop.example/list", headers={"Content-Encoding": "gzip"}, body=body
    )
    assert JUDGE.response(response).reason == "ok"
    assert JUDGE.response(response, body=gzip.decompress(body)).reason == "as-expected"


def test_requested_url() -> None:
    """The pattern is looked for in the URL that was asked for, before redirects."""
    found = verdict("https://shop.example/", b"x", redirects=("https://shop.example/item/7",))
    assert found.kind is Kind.BLOCKED


def test_in_meta() -> None:
    """A request's own expectation comes first; one that cannot be read is left aside."""
    own = {"session_filter_expect": {"bytes": b"lamp"}}
    assert verdict("https://shop.example/item/7", b"lamp", meta=own).reason == "as-expected"
    assert Judge().answer(Answer(200, {}, b"x", "", meta=own)).kind is Kind.BLOCKED
    broken = {"session_filter_expect": {"xpath": "//h1"}}
    assert Judge().answer(Answer(200, {}, b"x", "", meta=broken)).kind is Kind.OK


@pytest.mark.parametrize(
    "value",
    [
        5,
        ["/item/"],
        {"(": {"css": "h1"}},
        {5: {"css": "h1"}},
        {"x": "h1"},
        {"x": {}},
        {"x": {"xpath": "//h1"}},
        {"x": {"css": "h1["}},
        {"x": {"css": 5}},
        {"x": {"bytes": "text"}},
        {"x": {"bytes": b""}},
        {"x": {"min_size": -1}},
        {"x": {"min_size": True}},
        {"x": {"min_size": "9"}},
    ],
)
def test_bad_expectations(value: Any) -> None:
    """Expectations that cannot be read are refused with the setting's name."""
    with pytest.raises(ConfigurationError, match="SESSION_FILTER_EXPECT"):
        Judge(expect=value)


@pytest.mark.parametrize("wanted", ["h1", {"xpath": "//h1"}, {"css": "h1["}])
def test_bad_meta(wanted: object, caplog: pytest.LogCaptureFixture) -> None:
    """It is named, with what was expected, and the page judged as ever."""
    url = "https://shop.example/about"
    answer = Answer(200, {}, b"x", url, meta={"session_filter_expect": wanted})
    with caplog.at_level(logging.ERROR, "scrapy_session_filter"):
        assert Judge().answer(answer).reason == "ok"
    (record,) = caplog.records
    for told in ("session_filter_expect", str(wanted), "css, bytes or min_size"):
        assert told in record.getMessage()
