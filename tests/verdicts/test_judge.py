"""The judge as others use it: configured, extended, asked about anything, and explaining itself."""

from __future__ import annotations

import gzip
import logging
from typing import Any

import pytest
from scrapy import Request
from scrapy.http import Headers, HtmlResponse, Response

from benchmarks import detect
from scrapy_session_filter import judge as public_judge
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.verdict import OK, Kind, Strength, Verdict
from scrapy_session_filter.verdicts import BUILT_IN, Answer, Judge, judge
from scrapy_session_filter.verdicts.detectors import DetectorConfig, PageDetector, StatusDetector

from .pages import LINKS, PROSE, answer, html

SOFT = Verdict(Kind.BLOCKED, "empty-listing", Strength.WEAK)
CHALLENGE = html("<p>Wait</p>", "Just a moment...")


def empty_listing(answer: Answer) -> Verdict | None:
    """A detector as the manual shows it."""
    return SOFT if answer.host == "shop.example" and b"0 results" in answer.text else None


def test_outside_a_crawl() -> None:
    """A Scrapy response is judged without a crawl, with or without its request."""
    assert public_judge is judge
    blocked = HtmlResponse("https://x.example", body=CHALLENGE)
    assert judge(blocked).vendor == "cloudflare"
    assert judge(blocked, Request("https://x.example")).vendor == "cloudflare"
    request = Request("https://x.example/captcha", meta={"redirect_urls": ["https://x.example/a"]})
    assert judge(Response("https://x.example/captcha", request=request)).reason == "redirect"


class Hostile:
    """Something whose every attribute raises."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # pytest looks at these
        raise RuntimeError(name)


class Strange:
    status = "200"
    headers = 5
    body = "text"
    url = None
    request = Request("https://x.example", meta={"redirect_urls": 7, "proxy": object()})


@pytest.mark.parametrize("thing", [None, 5, object(), Hostile(), Strange()])
def test_anything(thing: object) -> None:
    """Whatever is judged, there is a verdict."""
    assert isinstance(judge(thing, thing), Verdict)


def test_decoded_body_from_the_caller() -> None:
    """A body that the caller has decoded is used as it is."""
    packed = Response("https://x.example", headers={"Content-Encoding": "gzip"}, body=b"?")
    assert Judge().response(packed, body=CHALLENGE).vendor == "cloudflare"


def test_extra_verdict() -> None:
    """A verdict reached elsewhere decides, but a proxy's failure stays one."""
    page = HtmlResponse("https://x.example", body=CHALLENGE)
    assert Judge().response(page, extra=OK) is OK
    assert Judge().response(HtmlResponse("https://x.example"), extra=SOFT) is SOFT
    refused = HtmlResponse("https://x.example", status=407)
    assert Judge().response(refused, extra=OK).kind is Kind.PROXY_ERROR


def test_markers() -> None:
    """The user's own markers prove a block, byte for byte."""
    marked = Judge(block_markers=[b"Sold out\xff", b"nothing here"])
    assert marked.answer(answer(b"<p>Sold out\xff</p>")).reason == "marker"
    assert marked.answer(answer(b"<p>sold OUT</p>")).kind is Kind.OK
    assert marked.answer(answer(html(f"<p>{PROSE}</p><i>nothing here</i>"))).kind is Kind.BLOCKED


@pytest.mark.parametrize("value", ["x", b"x", 5, None, ["x"], [b""], [b"x", None]])
def test_bad_markers(value: object) -> None:
    """Markers that are not byte strings are refused with the setting's name."""
    with pytest.raises(ConfigurationError, match=r"SESSION_FILTER_BLOCK_MARKERS.*byte strings"):
        Judge(block_markers=value)  # type: ignore[arg-type]


QUEUE = {"where": "title", "literal": "Just a moment...", "effect": "rate-limit", "vendor": "shop"}


def test_rules_of_ones_own() -> None:
    """A rule can be added, replaced, and switched off by name; an added one stands first."""
    found = Judge(rules={"my-queue": QUEUE}).answer(answer(CHALLENGE))
    assert (found.kind, found.reason, found.vendor) == (Kind.THROTTLED, "rate-limit", "shop")
    assert Judge(rules={"cf-title": QUEUE}).answer(answer(CHALLENGE)).vendor == "shop"
    assert Judge(rules={"cf-title": None}).answer(answer(CHALLENGE)).kind is Kind.OK


@pytest.mark.parametrize("where", ["code", "text", "prose"])
@pytest.mark.parametrize("literal", ["atashopgat", "Gone fishing, sorry", "\N{FISH}", "(-:"])
def test_own_literals_anywhere(where: str, literal: str) -> None:
    """A rule's literal is found in a small page however it stands there."""
    judge = Judge(rules={"mine": {"where": where, "literal": literal}})
    for page in (html(f"<p>x{literal}x</p>"), html(f"<p>{literal}</p>" + "<p>x</p>" * 300)):
        assert judge.answer(answer(page)).kind is Kind.BLOCKED
    token = {"where": "code", "literal": literal}
    page = html(f"<b>{literal}</b><p>{PROSE}</p>" + LINKS)
    assert Judge(rules={"mine": token}).answer(answer(page)).kind is Kind.BLOCKED


def test_own_fields() -> None:
    """Gate, second literal and strength mean what they mean in built-in rules."""
    fields = {"where": "text", "literal": "wall", "gate": "refused", "also": "brick"}
    judge = Judge(rules={"mine": fields})
    for page, status, strength in (
        ("wall of brick", 403, Strength.STRONG),
        ("wall", 403, Strength.WEAK),
        ("wall of brick", 200, None),
    ):
        verdict = judge.answer(answer(html(f"<p>{page}</p>"), status))
        assert (verdict.strength if verdict.is_block else None) is strength
    weak = Judge(rules={"mine": {"where": "text", "literal": "wall", "strength": "weak"}})
    assert weak.answer(answer(html("<p>wall</p>"))).strength is Strength.WEAK
    teapot = Judge(rules={"mine": {"where": "status", "literal": "418", "effect": "page"}})
    assert teapot.answer(answer(b"", 418)).kind is Kind.OK


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"cf-titel": None}, "names of built-in rules.*cf-title"),
        ({"qqqq": None}, "names of built-in rules"),
        ({"mine": "x"}, "for mine None, or a dict"),
        ({"mine": {"literal": "x"}}, "where and literal"),
        ({"mine": {**QUEUE, "colour": "red"}}, "where and literal"),
        ({"mine": {**QUEUE, "where": "page"}}, "for where of mine one of"),
        ({"mine": {**QUEUE, "literal": " "}}, "for literal of mine a text"),
        ({"mine": {**QUEUE, "also": 5}}, "for also of mine a text"),
        ({"mine": {**QUEUE, "effect": "ban"}}, "for effect of mine one of"),
        ({"mine": {**QUEUE, "gate": print}}, "for gate of mine one of"),
        ({"mine": {**QUEUE, "strength": ""}}, "for strength of mine one of"),
        ({"mine": {"where": "status", "literal": "4xx"}}, "for literal of mine a status"),
        ({5: QUEUE}, "names that are texts"),
    ],
)
def test_bad_rules(rules: dict[Any, Any], text: str) -> None:
    """A rule that cannot be used is refused with its name and what was expected."""
    with pytest.raises(ConfigurationError, match=f"SESSION_FILTER_RULES.*{text}"):
        Judge(rules=rules)


def test_detectors_of_ones_own() -> None:
    """Functions, instances and classes are asked in order; the first verdict decides."""
    config = DetectorConfig(Judge().book)
    mine = Judge(detectors=[empty_listing, PageDetector, StatusDetector(config)])
    assert mine.answer(answer(b"<p>0 results</p>")) is SOFT
    assert mine.answer(answer(CHALLENGE)).vendor == "cloudflare"
    assert mine.answer(answer(b"", 403)).reason == "status-403"
    assert Judge(detectors=[]).answer(answer(CHALLENGE, 403)).reason == "status-403"


def test_class_without_config() -> None:
    """A class that knows nothing of the configuration is made without arguments."""

    class Always:
        def __call__(self, answer: Answer) -> Verdict:
            return SOFT

    assert Judge(detectors=[Always]).answer(answer(b"")) is SOFT


def test_built_in_paths() -> None:
    """The base of the DETECTORS setting names classes that exist, in the order they are used."""
    names = [path.rpartition(".")[2] for path in sorted(BUILT_IN, key=lambda path: BUILT_IN[path])]
    assert names == [type(detector).__name__ for detector in Judge().detectors]


async def waits(answer: Answer) -> Verdict:
    return SOFT


def raises(answer: Answer) -> Verdict:
    raise KeyError


def says_yes(answer: Answer) -> Any:
    return True


@pytest.mark.parametrize(
    ("detector", "complaint"), [(raises, "KeyError"), (says_yes, "bool"), (waits, "coroutine")]
)
def test_broken_detector(detector: Any, complaint: str, caplog: pytest.LogCaptureFixture) -> None:
    """A detector that fails abstains, and that is said once."""
    broken = Judge(detectors=[detector, empty_listing])
    with caplog.at_level(logging.ERROR, "scrapy_session_filter"):
        assert broken.answer(answer(b"0 results")) is SOFT
        assert broken.answer(answer(b"0 results")) is SOFT
    (record,) = caplog.records
    assert complaint in record.getMessage()
    assert detector.__name__ in record.getMessage()


def test_explanation() -> None:
    """An explanation names the verdict, each rule that was found, and whether it held."""
    page = HtmlResponse(
        "https://x.example", body=html("<p>unusual activity</p>", "Just a moment...")
    )
    explained = Judge().explain(page)
    text = str(explained)
    assert explained.verdict.vendor == "cloudflare"
    assert "cf-title" in text
    assert "FlareSolverr" in text
    assert "StatusDetector" in text
    lookalike = HtmlResponse("https://x.example", body=html("<a></a>" * 30, "Just a moment..."))
    assert "cf-title" in str(Judge().explain(lookalike))
    assert "does not hold" in str(Judge().explain(lookalike))


def test_verdict_travels() -> None:
    """A verdict's fields are plain values, and its evidence is short."""
    verdict = Judge().answer(answer(html("<p>x</p>", "Just a moment..."), 403, retry_after="5"))
    fields = verdict.as_dict()
    assert fields["kind"] == "BLOCKED"
    assert fields["retry_after"] == 5.0
    assert len(fields["evidence"]) <= 80


def test_as_pages_are_scored() -> None:
    """The form in which page collections are scored gives the judge's own verdict."""
    assert detect.classify(200, {}, CHALLENGE, "https://x.example") == ("BLOCKED", "cloudflare")
    assert detect.is_block(429, {"retry-after": "5"}, b"", "")
    assert not detect.is_block(404, {}, b"", "")


def test_crawl_of_half_404s_and_logins() -> None:
    """A site whose every second link is missing, or a form with a widget, blocks nobody."""
    judge = Judge()
    missing = answer(html("<h1>404</h1><p>Not here</p>", "Not found"), 404)
    form = answer(html('<form><input type="password"><div class="g-recaptcha"></div></form>'))
    assert {judge.answer(page).kind for page in (missing, form) * 500} == {Kind.OK}


def test_slow_detectors(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Code of the user's that takes long is named in a warning, once."""
    clock = iter(range(100))
    path = "scrapy_session_filter.verdicts.slow.time.perf_counter"
    monkeypatch.setattr(path, lambda: float(next(clock)))
    mine = Judge(detectors=[empty_listing, PageDetector])
    for _ in range(3):
        assert mine.answer(answer(b"<p>0 results</p>")) is SOFT
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "empty_listing took 1.0 s" in caplog.text
    assert Judge(expect={"x": {"bytes": b"y"}}).answer(answer(b"x", url="http://x")).is_block
    assert "ExpectDetector took" in caplog.text


READ = [
    Response("https://x.example/", 200, {"Content-Type": "text/html"}, b"<p>Hello"),
    Response("https://x.example/", 404, {"Server": "nginx", "Set-Cookie": ["a=1", "b=2"]}, b""),
    Response("https://x.example/", 200, {"Content-Encoding": "gzip"}, gzip.compress(b"<p>Hi")),
    Response("https://x.example/", 200, None, b"\xff\xfe<\0p\0>\0"),
]


@pytest.mark.parametrize("response", READ)
@pytest.mark.parametrize(
    "meta", [{}, {"proxy": "http://p:1"}, {"proxy": None}, {"redirect_urls": ["https://y.example"]}]
)
def test_short_way_to_read(response: Response, meta: dict[str, object]) -> None:
    """An answer in a crawl is read as any other object would be."""
    request = Request("https://x.example/", method="POST", meta=meta)
    short, careful = Answer.of_scrapy(response, request), Answer.of(response, request)
    assert {**vars(short), "headers": None} == {**vars(careful), "headers": None}
    assert dict(short.headers) == dict(careful.headers)


def test_headers_of_scrapy_and_plain_ones() -> None:
    """Headers prove the same however they come."""
    public = Judge()
    for headers in (
        {"server": ["tinyproxy/1.11"]},
        {"server": ["nginx"], "x-squid-error": ["ERR_DNS_FAIL 0"]},
        {"set-cookie": ["datadome=1"]},
        {"server": ["nginx"]},
    ):
        for status in (200, 403, 502):
            kept = Response("https://x.example/", status, Headers(headers))
            plain = Answer(status, headers, b"", "https://x.example/")
            assert judge(kept) == public.answer(plain)
