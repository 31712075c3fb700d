"""What a rule is, and how a book of them is searched.

A rule is one line of data: what it looks for, where, what that proves, and who says so. Rules that
prove a block stand before those that prove a page, and the first that holds decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from scrapy_session_filter.verdict import About, Kind, Strength, Verdict
from scrapy_session_filter.verdicts.answer import ORDINARY, SHORT
from scrapy_session_filter.verdicts.finder import Finder
from scrapy_session_filter.verdicts.gates import Having, anywhere, sparse
from scrapy_session_filter.verdicts.words import Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scrapy_session_filter.verdicts.answer import Answer


#: bytes searched at either end of a thin page: half of the thin pages are shorter, and in a longer
#: one the challenge stands at the beginning or the end; more of one whose status is not ordinary
_OPENING, _ENDING = 4 * 1024, 3 * 1024


class Where(Enum):
    """The part of an answer that a rule's literal is looked for in."""

    HEADER = "header"  #: ``name`` or ``name: part of the value``
    COOKIE = "cookie"  #: the start of a name of a cookie that the answer sets
    STATUS = "status"
    URL = "url"  #: ``part of the host/start of the path`` of where a redirect leads
    TITLE = "title"  #: the whole title
    TITLE_START = "title-start"
    PROSE = "prose"  #: the visible text, unless the page is ordinary (`Answer.is_ordinary`)
    TEXT = "text"  #: the body, unless the page is ordinary
    CODE = "code"  #: the body of any page


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

    ``literal`` is compared in lower case. ``gate`` says on which answers the rule holds, ``also``
    is a second literal that the body must contain. A weak rule counts only with a second one, on a
    refusing status, or on a page with hardly anything else. ``source`` says who says so.
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
    """Rules in order of precedence, the user's own first, indexed by where they look."""

    def __init__(self, rules: Iterable[Rule], own: Iterable[Rule] = ()) -> None:
        own = tuple(own)
        self.rules = (*own, *rules)
        ranked = list(enumerate(self.rules))
        self.verdicts = [rule.verdict for rule in self.rules]
        self.by = {where: [(n, r) for n, r in ranked if r.where is where] for where in Where}
        self.titles: dict[str, list[int]] = {}
        for n, rule in self.by[Where.TITLE]:
            self.titles.setdefault(rule.literal.lower(), []).append(n)
        self.title_starts = [(r.literal.lower(), n) for n, r in self.by[Where.TITLE_START]]
        self.any_title_start = tuple(literal for literal, _ in self.title_starts)
        self.code = [(rule.literal.lower().encode(), n) for n, rule in self.by[Where.CODE]]
        self.code_of_rich = any(rule.gate is not sparse for _, rule in self.by[Where.CODE])
        self._own = len(own)
        self._words: dict[int, Words] = {}

    @cached_property
    def _body(self) -> Finder[int]:
        """Finds literals of bodies; made for the first page that has to be searched."""
        return Finder(
            (rule.literal.lower().encode(), n)
            for n, rule in self.by[Where.CODE] + self.by[Where.TEXT]
        )

    @cached_property
    def _prose(self) -> Finder[int]:
        return Finder((rule.literal.lower().encode(), n) for n, rule in self.by[Where.PROSE])

    def _words_of(self, status: int) -> Words:
        """Return the words of rules that may hold with a status, made when first asked for."""
        words = self._words.get(status)
        if words is None:
            words = self._words[status] = Words(
                (
                    (rule.literal.lower().encode(), rule.also.lower().encode())
                    for place in (Where.CODE, Where.TEXT, Where.PROSE)
                    for n, rule in self.by[place]
                    if n >= self._own
                    if not isinstance(rule.gate, Having) or status in rule.gate.statuses
                ),
                _parts(self.rules[: self._own]),
            )
        return words

    def in_title(self, answer: Answer) -> list[int]:
        """Return the ranks of rules whose literal is or starts the title; no gate is asked yet."""
        title = answer.title
        if not title:
            return []
        found = list(self.titles.get(title, ()))
        if title.startswith(self.any_title_start):
            found += [n for start, n in self.title_starts if title.startswith(start)]
        return self._ranked(found, answer) if found else []

    def in_body(self, answer: Answer) -> list[int]:
        """Return the ranks of rules whose literal is in the body; no gate is asked yet.

        Where a token of any page is found the rest is not looked for.
        """
        if answer.status in ORDINARY:
            size = len(answer.body or b"")
            if size <= _SMALL:
                if not self._words_of(answer.status).may_hold(answer.body or b""):
                    return []  # cheaper to see than what its reader sees
            elif size <= SHORT and answer.is_rich and not self.code_of_rich:
                return []  # of a longer page only the edges are searched: no links need be counted
        text = answer.text
        found = [n for literal, n in self.code if literal in text]
        if found:
            return self._ranked(found, answer)
        if answer.is_ordinary:
            return []
        opening = _OPENING if answer.status in ORDINARY else 2 * _OPENING
        if len(text) > opening + _ENDING:
            text = text[:opening] + b"\n" + text[-_ENDING:]
        found = self._body.find(text) + self._prose.find(answer.prose.encode())
        return self._ranked(found, answer)

    def _ranked(self, found: list[int], answer: Answer) -> list[int]:
        return sorted({n for n in found if self._has_companion(n, answer)})

    def _has_companion(self, n: int, answer: Answer) -> bool:
        also = self.rules[n].also.lower()
        return not also or also.encode() in answer.text or also in answer.prose

    def is_strong(self, n: int) -> bool:
        """Whether the rule of this rank proves alone."""
        return self.rules[n].strength is Strength.STRONG

    def holding(self, ranks: Iterable[int], answer: Answer) -> Iterator[int]:
        """Yield those of the ranks whose gate lets the answer through; each gate is asked once."""
        asked: dict[Callable[[Answer], bool], bool] = {}
        for n in ranks:
            gate = self.rules[n].gate
            if gate not in asked:
                asked[gate] = gate(answer)
            if asked[gate]:
                yield n


_SMALL = 4096  # bytes; of longer pages the text is found sooner than all words are looked for


def _parts(rules: Iterable[Rule]) -> Iterator[bytes]:
    """Yield what stands in the body of every page on which one of the rules holds."""
    for rule in rules:
        literal = rule.literal.lower()
        if rule.where in (Where.CODE, Where.TEXT):
            yield literal.encode()
        elif rule.where is Where.PROSE:  # its words may be apart
            yield max(literal.split(), key=len).encode()
