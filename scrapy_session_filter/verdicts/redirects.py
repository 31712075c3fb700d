"""Whether a redirect leads to a block: to where, compared with what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit

from scrapy_session_filter.verdict import Kind, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scrapy_session_filter.verdicts.answer import Answer
    from scrapy_session_filter.verdicts.rules import Rule

_URL_LIMIT = 2048
#: parts of a path that name a block page on any site; a page asked for by such a name is none, so
#: these hold only where the requested path has no such part
_SEGMENTS = frozenset(
    (
        *("captcha", "recaptcha", "hcaptcha", "showcaptcha", "captcha-page", "captchapage"),
        *("captcha-verify", "verify-captcha", "captcha-challenge", "bot-captcha", "__captcha"),
        *("botcheck", "bot-check", "bot-challenge", "bot-detected", "bot-detection", "antibot"),
        *("anti-bot", "antispider", "robot-check", "robotcheck", "not-a-robot", "notarobot"),
        *("are-you-human", "areyouhuman", "human-verification", "humanverification"),
        *("verify-human", "human-check", "js-challenge", "security-challenge", "security-check"),
        *("access-denied", "accessdenied", "access_denied", "ip-blocked", "ipblocked", "ip-block"),
        *("you-are-blocked", "too-many-requests", "rate-limited", "rate-limit-exceeded"),
    )
)


class Place(NamedTuple):
    """A URL as the rules see it: both parts in lower case."""

    host: str
    path: str


def place(url: str) -> Place:
    """Split a URL; whatever cannot be split is nowhere."""
    try:
        parts = urlsplit(url[:_URL_LIMIT])
        return Place((parts.hostname or "").lower(), parts.path.lower())
    except ValueError:
        return Place("", "")


def destination(answer: Answer) -> Place | None:
    """Return where the answer leads, or has led; None where there was no redirect."""
    if answer.location:
        try:
            return place(urljoin(answer.url[:_URL_LIMIT], answer.location[:_URL_LIMIT]))
        except ValueError:
            return None
    return place(answer.url) if answer.redirects else None


def matches(literal: str, target: Place) -> bool:
    """Whether a rule's ``part of the host/start of the path`` fits; either part may be empty.

    ``google./sorry/`` fits every Google domain: the host part must begin a label.
    """
    host, slash, path = literal.partition("/")
    if not target.path.startswith(slash + path if path else ""):
        return False
    return not host or target.host.startswith(host) or f".{host}" in target.host


def by_redirect(
    answer: Answer, rules: Iterable[tuple[int, Rule]], verdicts: list[Verdict]
) -> Verdict | None:
    """Return the verdict of a redirect to a block page; None for all others.

    A rule holds only if the requested URL does not match it too.
    """
    target = destination(answer)
    if target is None:
        return None
    asked = place(answer.requested_url)
    for n, rule in rules:
        if (
            matches(rule.literal.lower(), target)
            and not matches(rule.literal.lower(), asked)
            and rule.gate(answer)
        ):
            return verdicts[n]
    segment = _blocking_segment(target)
    if segment and not _blocking_segment(asked):
        return Verdict(Kind.BLOCKED, "redirect", evidence=f"path part: {segment}")
    return None


def _blocking_segment(where: Place) -> str | None:
    for segment in where.path.split("/"):
        name = segment.partition(".")[0]
        if name in _SEGMENTS:
            return name
    return None
