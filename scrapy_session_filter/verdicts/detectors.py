"""The built-in detectors: each asks one part of an answer and answers with a verdict, or abstains.

A detector of your own is any callable that takes an `Answer`::

    def empty_listing(answer):
        if answer.host == "shop.example" and b"0 results" in answer.text:
            return Verdict(Kind.BLOCKED, "empty-listing", Strength.WEAK)

Name it in ``SESSION_FILTER_DETECTORS`` with a priority: lower ones are asked first, and the first
verdict decides. A class is made without arguments, or by its ``from_config(config)`` if it has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from scrapy_session_filter.verdict import Kind, Strength, Verdict
from scrapy_session_filter.verdicts.gates import REFUSING, gate_page
from scrapy_session_filter.verdicts.headers import ScrapyHeaders, kept_as
from scrapy_session_filter.verdicts.redirects import by_redirect
from scrapy_session_filter.verdicts.rules import RuleBook, Where
from scrapy_session_filter.verdicts.statuses import by_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from scrapy_session_filter.verdicts.answer import Answer

_MODULE = "scrapy_session_filter.verdicts.detectors"
#: the base of ``SESSION_FILTER_DETECTORS``: import path to priority
BUILT_IN: dict[str, int] = {
    f"{_MODULE}.HeaderDetector": 100,
    f"{_MODULE}.RedirectDetector": 200,
    f"{_MODULE}.PageDetector": 300,
    "scrapy_session_filter.verdicts.expect.ExpectDetector": 350,
    f"{_MODULE}.StatusDetector": 400,
}


class Detector(Protocol):
    """Anything that takes an answer and returns a verdict, or None to leave it to the next."""

    def __call__(self, answer: Answer, /) -> Verdict | None:
        """Judge the answer, or abstain with None."""


@dataclass(frozen=True)
class DetectorConfig:
    """What the built-in detectors are made from."""

    book: RuleBook
    markers: tuple[bytes, ...] = ()
    expect: Mapping[str, Any] | None = None


class _BuiltIn:
    def __init__(self, config: DetectorConfig) -> None:
        self.book = config.book
        self.markers = config.markers

    @classmethod
    def from_config(cls, config: DetectorConfig) -> Self:
        return cls(config)


class HeaderDetector(_BuiltIn):
    """Headers and cookies by which a firewall, or a proxy, names itself and says what it did."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__(config)
        self.by_name: dict[str, list[tuple[str, int]]] = {}
        for n, rule in self.book.by[Where.HEADER]:
            name, _, part = rule.literal.lower().partition(": ")
            self.by_name.setdefault(name, []).append((part, n))
        self.cookies = [(rule.literal, n) for n, rule in self.book.by[Where.COOKIE]]
        self._names = frozenset(map(kept_as, (*self.by_name, "set-cookie")))

    def __call__(self, answer: Answer) -> Verdict | None:
        """Return the verdict of the first rule in the book that holds."""
        headers = answer.headers
        names = headers.among(self._names) if isinstance(headers, ScrapyHeaders) else headers
        found = []
        for name in names:
            rules = self.by_name.get(name)
            if rules is not None:
                said = "\n".join(headers[name]).lower()
                found += [n for part, n in rules if part in said]
            if name == "set-cookie":
                found += [
                    n
                    for start, n in self.cookies
                    if any(cookie.startswith(start) for cookie in answer.cookies)
                ]
        if not found:
            return None
        n = next(self.book.holding(sorted(found), answer), None)
        return None if n is None else self.book.verdicts[n]


class RedirectDetector(_BuiltIn):
    """Where the answer leads: to a captcha, a log-in wall or a "sorry" page nobody asked for."""

    def __call__(self, answer: Answer) -> Verdict | None:
        """Return the verdict of a redirect to a block page."""
        if not answer.redirects and not 300 <= answer.status < 400:
            return None
        return by_redirect(answer, self.book.by[Where.URL], self.book.verdicts)


class PageDetector(_BuiltIn):
    """Title and body: what proves alone, and what proves together with something else."""

    def __call__(self, answer: Answer) -> Verdict | None:
        """Return the verdict of the user's own markers, else of the first rule that holds."""
        for marker in self.markers:
            if (answer.body or b"").find(marker, 0, _MARKED) >= 0:
                shown = marker.decode("utf-8", "replace")[:70]
                return Verdict(Kind.BLOCKED, "marker", evidence=f"marker: {shown}")
        if not answer.is_text:
            return None
        book = self.book
        titled = book.in_title(answer)
        first = next(book.holding(titled, answer), None) if titled else None
        if first is not None and book.rules[first].vendor and book.is_strong(first):
            return book.verdicts[first]  # the body could only say the same again
        found = book.in_body(answer)
        if not found and not titled:
            return None
        weak: list[Verdict] = []
        for n in book.holding(sorted({*titled, *found}), answer):
            if book.is_strong(n):
                return book.verdicts[n]
            weak.append(book.verdicts[n])
        return _together(weak, answer) if weak else None


_MARKED = 128 * 1024


def _together(weak: list[Verdict], answer: Answer) -> Verdict | None:
    """Weigh weak evidence: two pieces prove, or one on a refusal; one on a bare page may."""
    first = weak[0]
    if len(weak) > 1 or answer.status in REFUSING:
        return Verdict(
            first.kind, first.reason, Strength.STRONG, first.about, first.vendor, first.evidence
        )
    return first if gate_page(answer) and len(answer.prose) < _BARE else None


_BARE = 400  # characters


class StatusDetector(_BuiltIn):
    """The status, when nothing else decided: never abstains."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__(config)
        self.by_status: dict[int, list[int]] = {}
        for n, rule in self.book.by[Where.STATUS]:
            self.by_status.setdefault(int(rule.literal), []).append(n)

    def __call__(self, answer: Answer) -> Verdict:
        """Return the verdict of a rule for this status, else of the table."""
        status = answer.status
        if status in self.by_status:
            n = next(self.book.holding(self.by_status[status], answer), None)
            if n is not None:
                return self.book.verdicts[n]
        if (
            status in _API_STATUSES
            and answer.is_data
            and answer.start.startswith((b"{", b"[", b"<?xml"))
        ):
            return _API_ANSWER
        return by_status(status, status == 503 and "retry-after" in answer.headers)


#: what APIs answer to requests they do not grant, whoever sends them
_API_STATUSES = frozenset((401, 403, 405, 406, 409, 412, 423))
_API_ANSWER = Verdict(Kind.OK, "api-answer", evidence="an error in JSON or XML")
