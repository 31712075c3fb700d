"""What a rule is, and how a book of them is searched.

A rule is one line of data: what it looks for, where, what that proves, and who says so. Rules that
prove a block stand before those that prove a page, and the first that holds decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from scrapy_session_filter.verdict import About, Kind, Strength, Verdict
from scrapy_session_filter.verdicts.gates import anywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scrapy_session_filter.verdicts.answer import Answer


class Where(Enum):
    """The part of an answer that a rule's literal is looked for in."""

    HEADER = "header"  #: ``name`` or ``name: part of the value``
    COOKIE = "cookie"  #: the start of a name of a cookie that the answer sets
    STATUS = "status"
    URL = "url"  #: ``part of the host/start of the path`` of where a redirect leads
    TITLE = "title"  #: the whole title
    TITLE_START = "title-start"
    PROSE = "prose"  #: the visible text of a short page, or of a longer one that failed
    TEXT = "text"  #: the whole body of the same
    CODE = "code"  #: the body of any page: a token that no prose or ordinary page contains


@dataclass(frozen=True, slots=True)
class Effect:
    """What an answer is once a rule holds."""

    kind: Kind
    reason: str
    about: About = About.VISITOR


CHALLENGE = Effect(Kind.BLOCKED, "challenge-page")
CAPTCHA = Effect(Kind.BLOCKED, "captcha-page")
DENIED = Effect(Kind.BLOCKED, "denied-page")
LOGIN = Effect(Kind.BLOCKED, "login-wall")
ADDRESS = Effect(Kind.BLOCKED, "address-ban", About.ADDRESS)
COUNTRY = Effect(Kind.BLOCKED, "country-ban", About.COUNTRY)
AGENT = Effect(Kind.BLOCKED, "user-agent-ban", About.USER_AGENT)
RATE = Effect(Kind.THROTTLED, "rate-limit", About.RATE)
PROXY = Effect(Kind.PROXY_ERROR, "proxy-error-page", About.ADDRESS)
ORIGIN = Effect(Kind.SITE_ERROR, "origin-error-page")
PAGE = Effect(Kind.OK, "page")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of evidence.

    ``literal`` is compared in lower case. ``gate`` says on which answers the rule holds, ``also`` is
    a second literal that the same text must contain. A weak rule counts only with a second one, on a
    refusing status, or on a page with hardly anything else. ``source`` is who says what it is.
    """

    name: str
    vendor: str | None
    effect: Effect
    where: Where
    literal: str
    source: str
    gate: Callable[[Answer], bool] = anywhere
    also: str = ""
    strength: Strength = Strength.STRONG

    @property
    def verdict(self) -> Verdict:
        """The verdict of an answer on which this rule holds."""
        return Verdict(
            self.effect.kind,
            self.effect.reason,
            self.strength,
            self.effect.about,
            self.vendor,
            f"{self.name}: {self.literal}"[:80],
        )


class RuleBook:
    """Rules in order of precedence, indexed by where they look.

    ``disabled`` names rules to leave out; an unknown name is kept silent, since rules come and go.
    """

    def __init__(self, rules: Iterable[Rule], disabled: Iterable[str] = ()) -> None:
        skipped = frozenset(disabled)
        self.rules = tuple(rule for rule in rules if rule.name not in skipped)
        ranked = list(enumerate(self.rules))
        self.verdicts = [rule.verdict for rule in self.rules]
        self.by = {where: [(n, r) for n, r in ranked if r.where is where] for where in Where}
        self.titles: dict[str, list[int]] = {}
        for n, rule in self.by[Where.TITLE]:
            self.titles.setdefault(rule.literal.lower(), []).append(n)
        self.title_starts = [(r.literal.lower(), n) for n, r in self.by[Where.TITLE_START]]
        self.any_title_start = tuple(literal for literal, _ in self.title_starts)
        self.code = _behind_triggers(self.by[Where.CODE], _CODE_TRIGGERS)
        self.body = _behind_triggers(self.by[Where.CODE] + self.by[Where.TEXT], _CODE_TRIGGERS)
        self.prose = _behind_triggers(self.by[Where.PROSE], _PROSE_TRIGGERS)

    def matches(self, answer: Answer) -> list[int]:
        """Return the ranks of rules whose literal is in title or body; gates are not asked yet."""
        if not answer.is_text:
            return []
        found: list[int] = []
        title = answer.title
        if title:
            found += self.titles.get(title, ())
            if title.startswith(self.any_title_start):
                found += [n for start, n in self.title_starts if title.startswith(start)]
        text = answer.text
        if not answer.is_short and answer.status == 200:
            found += _found(self.code, text)
        else:
            found += _found(self.body, text)
            found += _found(self.prose, answer.prose.encode())
        found.sort()
        return found

    def holding(self, ranks: Iterable[int], answer: Answer) -> Iterator[int]:
        """Yield those of the ranks whose gate lets the answer through."""
        return (n for n in ranks if self.rules[n].gate(answer))


Groups = list[tuple[bytes, list[tuple[bytes, bytes, int]]]]


def _found(groups: Groups, text: bytes) -> list[int]:
    return [
        n
        for trigger, group in groups
        if trigger in text
        for literal, also, n in group
        if literal in text and also in text
    ]


def _behind_triggers(rules: list[tuple[int, Rule]], triggers: Iterable[bytes]) -> Groups:
    """Group literals behind a word they share: most pages then cost one search a word."""
    groups: dict[bytes, list[tuple[bytes, bytes, int]]] = {}
    for n, rule in rules:
        literal = rule.literal.lower().encode()
        trigger = next((word for word in triggers if word in literal), literal)
        groups.setdefault(trigger, []).append((literal, rule.also.lower().encode(), n))
    return list(groups.items())


_CODE_TRIGGERS = (
    b"captcha",
    b"challenge",
    b"incapsula",
    b"/cdn-cgi/",
    b"cf-error-code",
    b"perimeterx",
)
_PROSE_TRIGGERS = (
    b"block",
    b"denied",
    b"robot",
    b"human",
    b"unusual",
    b"automat",
    b"banned",
    b"captcha",
)


def weakened(verdict: Verdict) -> Verdict:
    """Return the verdict with weak strength."""
    return replace(verdict, strength=Strength.WEAK)
