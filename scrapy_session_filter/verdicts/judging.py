"""From an answer, or the lack of one, to a verdict."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.verdict import Kind, Verdict
from scrapy_session_filter.verdicts.answer import Answer
from scrapy_session_filter.verdicts.detectors import (
    DetectorConfig,
    HeaderDetector,
    PageDetector,
    RedirectDetector,
    StatusDetector,
)
from scrapy_session_filter.verdicts.expect import ExpectDetector
from scrapy_session_filter.verdicts.languages import LANGUAGES
from scrapy_session_filter.verdicts.lookalikes import PAGES, PROXIES
from scrapy_session_filter.verdicts.normal import Normal
from scrapy_session_filter.verdicts.own_rules import own_rules
from scrapy_session_filter.verdicts.retry_after import parse_retry_after
from scrapy_session_filter.verdicts.rules import Rule, RuleBook
from scrapy_session_filter.verdicts.sites import SITES
from scrapy_session_filter.verdicts.slow import Stopwatch, Watched
from scrapy_session_filter.verdicts.statuses import by_status, parse_block_statuses
from scrapy_session_filter.verdicts.titles import TITLES
from scrapy_session_filter.verdicts.transport import by_exception
from scrapy_session_filter.verdicts.vendors import VENDORS
from scrapy_session_filter.verdicts.wordings import WORDINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from scrapy_session_filter.verdicts.detectors import Detector

logger = logging.getLogger("scrapy_session_filter")

#: every built-in rule, in order of precedence
RULES: tuple[Rule, ...] = PROXIES + SITES + VENDORS + PAGES + TITLES + WORDINGS + LANGUAGES


class Judge:
    """Detectors in order, as one crawl is configured; the first verdict decides.

    ``block_statuses`` replaces the statuses that are blocks: ints, ranges as ``"494-499"``, and
    ``">=400"``; None keeps the table. What is listed is a block even where the page says otherwise,
    except 407. ``block_markers`` are byte strings that prove a block page, as they are.
    ``detectors`` are instances, functions or classes in order (None: the built-in ones).
    ``expect`` says what good pages must hold (`verdicts.expect`). With ``learn_normal`` the judge
    learns from answers that come with ``seen_by`` what a site's pages look like
    (`verdicts.normal`).
    ``rules`` are the user's own, which stand before the built-in ones, and None for those that are
    switched off (`verdicts.own_rules`). Raises `ConfigurationError` for statuses, markers,
    expectations or rules that cannot be used.
    """

    def __init__(
        self,
        *,
        block_statuses: Iterable[int | str] | None = None,
        block_markers: Iterable[bytes] = (),
        detectors: Sequence[Any] | None = None,
        expect: Mapping[str, Any] | None = None,
        learn_normal: bool = True,
        rules: Mapping[str, Any] | None = None,
    ) -> None:
        self.block_statuses = parse_block_statuses(block_statuses)
        book = _book_with(rules) if rules else _built_in_book()
        config = DetectorConfig(book, _markers(block_markers), expect)
        self.book = book
        stopwatch = Stopwatch()
        self.detectors: list[Detector] = [
            _timed(_made(detector, config), stopwatch)
            for detector in (
                (HeaderDetector, RedirectDetector, PageDetector, ExpectDetector, StatusDetector)
                if detectors is None
                else detectors
            )
        ]
        self._normal = Normal() if learn_normal else None
        self._complained: set[tuple[str, str]] = set()

    def response(
        self,
        response: Any,
        request: Any = None,
        *,
        body: bytes | None = None,
        extra: Verdict | None = None,
        seen_by: tuple[str, str] | None = None,
    ) -> Verdict:
        """Judge a response; never raises, whatever it is.

        ``body`` is the decoded body if the caller has it. ``extra`` is a verdict reached elsewhere,
        such as a spider's own: it decides, except that a proxy's failure stays one. ``seen_by`` is
        the site and the session that the answer came through, each answer once.
        """
        answer = Answer.of(response, request, body=body)
        verdict = self.answer(answer)
        if extra is not None and verdict.kind is not Kind.PROXY_ERROR:
            return extra
        return verdict if seen_by is None else self._learnt(*seen_by, answer, verdict)

    def seen(self, site: str, session: str, answer: Answer) -> Verdict:
        """Judge an answer that came through this session of the site, each answer once."""
        return self._learnt(site, session, answer, self.answer(answer))

    def answer(self, answer: Answer) -> Verdict:
        """Judge an answer that was read already."""
        verdict = self._first(self.detectors, answer)
        if verdict is None:
            verdict = by_status(answer.status, "retry-after" in answer.headers)
        if verdict.kind is Kind.OK and self.block_statuses is None:
            return verdict
        return self._finished(verdict, answer)

    def _learnt(self, site: str, session: str, answer: Answer, verdict: Verdict) -> Verdict:
        if self._normal is None:
            return verdict
        return self._normal.reconsider(site, session, answer, verdict)

    def exception(
        self,
        exception: BaseException,
        request: Any = None,
        *,
        proxied: bool = True,
    ) -> Verdict:
        """Judge a request that ended in an exception; ``proxied``: it went through a proxy."""
        return by_exception(exception, proxied=proxied)

    def explain(self, response: Any, request: Any = None) -> Explanation:
        """Return the verdict with what every rule and detector had to say."""
        answer = Answer.of(response, request)
        remarks: list[Remark] = []
        ranks = self.book.in_title(answer) + self.book.in_body(answer) if answer.is_text else []
        for n in ranks:
            rule = self.book.rules[n]
            held = rule.gate(answer)
            where = f"{rule.literal!r} in {rule.where.value}"
            remarks.append(
                Remark(
                    rule.name, f"{where} ({rule.source})", self.book.verdicts[n] if held else None
                )
            )
        for detector in self.detectors:
            name = _name(detector)
            said = self._first((detector,), answer)
            remarks.append(Remark(name, "detector", said))
        return Explanation(self.answer(answer), tuple(remarks))

    def _first(self, detectors: Iterable[Detector], answer: Answer) -> Verdict | None:
        """Return the first verdict; who raises or talks nonsense abstains, and is reported once."""
        for detector in detectors:
            try:
                verdict = detector(answer)
            except Exception as error:  # noqa: BLE001 - other people's code must not end the crawl
                self._complain(detector, type(error).__name__, repr(error))
                continue
            if verdict is None:
                continue
            if isinstance(verdict, Verdict):
                return verdict
            self._refuse(verdict, detector)
        return None

    def _refuse(self, verdict: object, detector: Detector) -> None:
        """Complain of a detector that answered with something else than a verdict."""
        close = getattr(verdict, "close", None)  # a coroutine that nobody will await
        if callable(close):
            close()
        self._complain(detector, type(verdict).__name__, f"returned a {type(verdict).__name__}")

    def _complain(self, detector: Detector, kind: str, text: str) -> None:
        name = _name(detector)
        if (name, kind) not in self._complained:
            self._complained.add((name, kind))
            logger.error("Detector %s abstains: %.200s (said once)", name, text)

    def _finished(self, verdict: Verdict, answer: Answer) -> Verdict:
        listed = self.block_statuses
        if listed is not None and answer.status != 407:
            if answer.status in listed:
                if verdict.kind in (Kind.OK, Kind.SITE_ERROR) or verdict.reason.startswith(
                    "status-"
                ):
                    return Verdict(
                        Kind.BLOCKED, f"status-{answer.status}", evidence="listed status"
                    )
            elif verdict.kind is Kind.BLOCKED and verdict.reason.startswith("status-"):
                return Verdict(Kind.OK, verdict.reason, evidence="not a listed status")
        if verdict.is_block and verdict.retry_after is None and "retry-after" in answer.headers:
            seconds = parse_retry_after(answer.header("retry-after"))
            if seconds is not None:
                return replace(verdict, retry_after=seconds)
        return verdict


@dataclass(frozen=True)
class Remark:
    """What one rule or detector said: ``verdict`` is None where it was found not to hold."""

    name: str
    text: str
    verdict: Verdict | None


@dataclass(frozen=True)
class Explanation:
    """A verdict with its remarks; ``str()`` is what a command prints."""

    verdict: Verdict
    remarks: tuple[Remark, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.verdict}"
            + (f" because of {self.verdict.evidence!r}" if self.verdict.evidence else "")
        ]
        for remark in self.remarks:
            said = "does not hold here" if remark.verdict is None else str(remark.verdict)
            if remark.text == "detector" and remark.verdict is None:
                said = "abstains"
            lines.append(f"  {remark.name}: {remark.text}: {said}")
        return "\n".join(lines)


def judge(response: Any, request: Any = None) -> Verdict:
    """Judge a response with the built-in rules, also outside a crawl; never raises."""
    return _default_judge().response(response, request)


@cache
def _default_judge() -> Judge:
    return Judge()


@cache
def _built_in_book() -> RuleBook:
    return RuleBook(RULES)


def _book_with(rules: Mapping[str, Any]) -> RuleBook:
    own, replaced = own_rules(rules, frozenset(rule.name for rule in RULES))
    return RuleBook((rule for rule in RULES if rule.name not in replaced), own)


def _made(detector: Any, config: DetectorConfig) -> Any:
    if not isinstance(detector, type):
        return detector
    make = getattr(detector, "from_config", None)
    return make(config) if make else detector()


def _markers(value: Iterable[bytes]) -> tuple[bytes, ...]:
    setting, expected = "SESSION_FILTER_BLOCK_MARKERS", "a list of byte strings, none of them empty"
    if isinstance(value, (str, bytes)):
        raise ConfigurationError(setting, value, expected)
    try:
        markers = tuple(value)
    except TypeError as error:
        raise ConfigurationError(setting, value, expected) from error
    if not all(isinstance(marker, bytes) and marker for marker in markers):
        raise ConfigurationError(setting, value, expected)
    return markers


def _timed(detector: Any, stopwatch: Stopwatch) -> Any:
    """Return the detector, watched if it runs code or patterns of the user's."""
    if isinstance(detector, (HeaderDetector, RedirectDetector, PageDetector, StatusDetector)):
        return detector
    if isinstance(detector, ExpectDetector) and not detector.expectations:
        return detector
    return Watched(detector, _name(detector), stopwatch)


def _name(detector: Any) -> str:
    if isinstance(detector, Watched):
        return detector.name
    name: str = getattr(detector, "__name__", type(detector).__name__)
    return name
