"""Each rule finds a page written for it, and lets pass what only speaks of it."""

from __future__ import annotations

from html import escape

import pytest

from scrapy_session_filter.verdict import Kind
from scrapy_session_filter.verdicts import Answer, Judge, Rule, Where
from scrapy_session_filter.verdicts.detectors import (
    DetectorConfig,
    HeaderDetector,
    PageDetector,
    RedirectDetector,
    StatusDetector,
)
from scrapy_session_filter.verdicts.judging import RULES
from scrapy_session_filter.verdicts.rules import RuleBook

from .pages import article, html

JUDGE = Judge()
STATUSES = (200, 403, 401, 404, 405, 429, 451, 500, 502, 503, 520)
HOSTS = ("shop.example", "www.linkedin.com", "www.bilibili.com", "www.wildberries.ru")
#: what a rule's gate wants beside its literal
BESIDE = {
    "google-unusual": "captcha-form",
    "sogou-title": "antispider",
    "tiktok-slardar": "wafchallengeid",
    "weak-zh-robot": "验证",
}
BY_PLACE = {where: [rule for rule in RULES if rule.where is where] for where in Where}
IN_PAGE = [
    rule
    for where in (Where.TITLE, Where.TITLE_START, Where.PROSE, Where.TEXT, Where.CODE)
    for rule in BY_PLACE[where]
]


def name(rule: Rule) -> str:
    return rule.name


def bodies(rule: Rule) -> list[bytes]:
    beside = f"<!-- {BESIDE.get(rule.name, '')} {rule.also} -->"
    if rule.where in (Where.TITLE, Where.TITLE_START):
        return [html(beside, title=rule.literal)]
    if rule.where is Where.PROSE:
        text = f"{rule.literal} {rule.also}"
        return [html(f"<p>{escape(text)}</p>{beside}"), text.encode()]
    text = f"{rule.literal} {rule.also}"
    xml = f'<?xml version="1.0"?><Error>{text}</Error>'
    return [html(f"<div {text}></div>{beside}"), text.encode(), xml.encode()]


def answers(rule: Rule) -> list[Answer]:
    return [
        Answer(status, {}, body, f"https://{HOSTS[0]}/item/7")
        for status in STATUSES
        for body in bodies(rule)
    ]


@pytest.mark.parametrize("rule", IN_PAGE, ids=name)
def test_page_with_the_literal(rule: Rule) -> None:
    """A small page with the literal gets the rule's verdict, at some status at least."""
    detector = PageDetector(DetectorConfig(RuleBook([rule])))
    found = [verdict for verdict in map(detector, answers(rule)) if verdict]
    assert found
    assert all(verdict.kind is rule.effect.kind for verdict in found)
    assert all(verdict.vendor == rule.vendor for verdict in found)
    assert all(rule.name in (verdict.evidence or "") for verdict in found)


@pytest.mark.parametrize("rule", IN_PAGE, ids=name)
def test_article_about_it(rule: Rule) -> None:
    """An article that quotes the literal is a page, also with its words as the title's end."""
    said = escape(f"{rule.literal} {rule.also}")
    for body in (article(said), article(said, title=f"An essay on {said}")):
        verdict = JUDGE.answer(Answer(200, {}, body, "https://blog.example/essay"))
        assert verdict.kind is Kind.OK, verdict.evidence


@pytest.mark.parametrize("rule", BY_PLACE[Where.HEADER], ids=name)
def test_header(rule: Rule) -> None:
    """The header at its status proves; another value, or another header, does not."""
    detector = HeaderDetector(DetectorConfig(RuleBook([rule])))
    header, _, part = rule.literal.partition(": ")
    value = f"{part}" or "1"
    body = html("<p>Sorry</p>")
    statuses = STATUSES
    extra = "error=proxy_internal_error" if rule.name == "proxy-status" else ""
    found = [detector(Answer(s, {header: [value + extra]}, body)) for s in statuses]
    assert any(verdict and verdict.kind is rule.effect.kind for verdict in found)
    assert not any(detector(Answer(s, {f"x-not-{header}": [value]}, body)) for s in statuses)
    if part:
        assert not any(detector(Answer(s, {header: ["something else"]}, body)) for s in statuses)


@pytest.mark.parametrize("rule", BY_PLACE[Where.COOKIE], ids=name)
def test_cookie(rule: Rule) -> None:
    """The cookie proves on a refusal, and is nothing on a good page."""
    detector = HeaderDetector(DetectorConfig(RuleBook([rule])))
    cookie = {"set-cookie": [f"{rule.literal}=x; Path=/"]}
    assert detector(Answer(403, cookie, html("<p>Sorry</p>")))
    assert not detector(Answer(200, cookie, html("<p>Sorry</p>")))


@pytest.mark.parametrize("rule", BY_PLACE[Where.STATUS], ids=name)
def test_status(rule: Rule) -> None:
    """The status proves at the host it is known of, and no other status does."""
    detector = StatusDetector(DetectorConfig(RuleBook([rule])))
    status = int(rule.literal)
    headers = {"server": ["WebKnight/4"]}
    found = [detector(Answer(status, headers, b"", f"https://{host}/")) for host in HOSTS]
    assert any(verdict.evidence and rule.name in verdict.evidence for verdict in found)
    assert detector(Answer(200, headers, b"", f"https://{HOSTS[0]}/")).kind is Kind.OK


@pytest.mark.parametrize("rule", BY_PLACE[Where.URL], ids=name)
def test_redirect(rule: Rule) -> None:
    """A redirect to the place proves; the same answer to a request for that place does not."""
    detector = RedirectDetector(DetectorConfig(RuleBook([rule])))
    host, _, path = rule.literal.partition("/")
    host = host + "com" if host.endswith(".") else host or "shop.example"
    target = f"https://{host}/{path}?x5secdata=1"
    asked = "https://elsewhere.example/item/7"
    verdict = detector(Answer(302, {"location": [target]}, b"", asked))
    assert verdict
    assert (verdict.kind, verdict.vendor) == (rule.effect.kind, rule.vendor)
    followed = Answer(200, {}, b"", target, redirects=(asked,))
    assert detector(followed) == verdict
    assert detector(Answer(302, {"location": [target + "&again"]}, b"", target)) is None


def test_names_are_unique() -> None:
    """Every rule can be switched off by a name of its own, and says its source."""
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.source for rule in RULES)
    assert all(rule.literal == rule.literal.lower() for rule in RULES)
