"""The judge as others use it: configured, extended, asked about anything, and explaining itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from scrapy import Request
from scrapy.http import HtmlResponse, Response

from benchmarks import detect
from scrapy_session_filter import judge as public_judge
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.verdict import OK, Kind, Strength, Verdict
from scrapy_session_filter.verdicts import BUILT_IN, Answer, Judge, Rule, Where, judge
from scrapy_session_filter.verdicts.detectors import DetectorConfig, PageDetector, StatusDetector
from scrapy_session_filter.verdicts.rules import CAPTCHA, RATE

from .pages import PROSE, answer, html

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


def test_rules_of_ones_own() -> None:
    """A rule can be added, one switched off by name, and an added one stands first."""
    own = Rule("my-queue", "shop", RATE, Where.TITLE, "just a moment...", "seen on shop.example")
    assert Judge(extra_rules=[own]).answer(answer(CHALLENGE)).vendor == "shop"
    assert Judge(disabled_rules=["cf-title"]).answer(answer(CHALLENGE)).kind is Kind.OK
    token = Rule("my-token", "shop", CAPTCHA, Where.CODE, "data-shop-gate", "seen on shop.example")
    page = html(f"<b data-shop-gate></b><p>{PROSE}</p>")
    assert Judge(extra_rules=[token]).answer(answer(page)).vendor == "shop"


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"disabled_rules": ["cf-titel"]}, "SESSION_FILTER_DISABLED_RULES.*cf-title"),
        ({"disabled_rules": ["qqqq"]}, "SESSION_FILTER_DISABLED_RULES.*names of built-in rules"),
        ({"extra_rules": [("x", "y")]}, "SESSION_FILTER_EXTRA_RULES.*Rule"),
        ({"extra_rules": [Rule("a", None, RATE, Where.TEXT, "", "me")]}, "with a literal"),
        ({"extra_rules": [Rule("a", None, RATE, Where.STATUS, "4xx", "me")]}, "its digits"),
    ],
)
def test_bad_rules(rules: dict[str, Any], text: str) -> None:
    """A rule name that does not exist, or a rule that is none, is refused."""
    with pytest.raises(ConfigurationError, match=text):
        Judge(**rules)


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
