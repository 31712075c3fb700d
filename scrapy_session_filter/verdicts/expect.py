r"""What the user says a good page must hold; its absence is a soft block.

``SESSION_FILTER_EXPECT`` maps regular expressions on URLs to what their pages must have::

    SESSION_FILTER_EXPECT = {
        r"shop\.example/item/": {"css": "h1.price", "min_size": 2000},
        r"api\.example/": {"bytes": b'"items":'},
    }

``css`` and ``bytes`` are one selector or byte string, or a list of which all must be found;
``min_size`` counts bytes of the decoded body. The first pattern found in the requested URL applies.
A request may bring its own in ``meta["session_filter_expect"]``, in the same form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.verdict import Kind, Strength, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scrapy_session_filter.verdicts.answer import Answer
    from scrapy_session_filter.verdicts.detectors import DetectorConfig

SETTING = "SESSION_FILTER_EXPECT"
META = "session_filter_expect"
_EXPECTED = "URL patterns, each with css, bytes or min_size"
_URL_LIMIT = 2048
_PARSED = 2 * 1024 * 1024  # bytes of a body that are parsed for a selector
_MET = Verdict(Kind.OK, "as-expected")


@dataclass(frozen=True)
class Expectation:
    """What one kind of page must hold."""

    css: tuple[str, ...] = ()
    markers: tuple[bytes, ...] = ()
    min_size: int = 0

    @classmethod
    def of(cls, value: object) -> Expectation:
        """Read it from plain data; raises TypeError, ValueError or a selector's syntax error."""
        if not isinstance(value, dict) or not value or set(value) - {"css", "bytes", "min_size"}:
            raise ValueError
        size = value.get("min_size", 0)
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ValueError
        css = _all_of(value.get("css", ()), str)
        for selector in css:
            _parsel().css2xpath(selector)
        return cls(css, _all_of(value.get("bytes", ()), bytes), size)

    def missing(self, body: bytes) -> str | None:
        """Return what the body lacks, or None."""
        if len(body) < self.min_size:
            return f"{len(body)} of at least {self.min_size} bytes"
        for marker in self.markers:
            if marker not in body:
                return f"bytes {marker!r}"
        if self.css:
            page = _parsel().Selector(body=body[:_PARSED], encoding="utf-8", type="html")
            for selector in self.css:
                if not page.css(selector):
                    return f"css {selector}"
        return None


class ExpectDetector:
    """Answers to 2xx pages something is expected of: they hold it (OK), or not (a soft block).

    Raises `ConfigurationError` for expectations that cannot be read.
    """

    def __init__(self, expectations: Mapping[str, Any] | None = None) -> None:
        try:
            self.expectations = [
                (re.compile(pattern), Expectation.of(value))
                for pattern, value in dict(expectations or {}).items()
            ]
        except Exception as error:
            # a pattern or a selector has errors of its library's own
            raise ConfigurationError(SETTING, expectations, _EXPECTED) from error

    @classmethod
    def from_config(cls, config: DetectorConfig) -> ExpectDetector:
        """Make the detector of one crawl."""
        return cls(config.expect)

    def __call__(self, answer: Answer) -> Verdict | None:
        """Return OK or a soft block where something is expected of this page."""
        wanted = answer.meta.get(META)
        if not (self.expectations or wanted) or not 200 <= answer.status < 300:
            return None
        if answer.body is None or answer.method == "HEAD":
            return None
        expectation = _of_meta(wanted) if wanted else self._for(answer.requested_url)
        if expectation is None:
            return None
        missing = expectation.missing(answer.body)
        if missing is None:
            return _MET
        if not answer.complete:
            return None  # it may be in the part that was not decoded
        return Verdict(
            Kind.BLOCKED, "expected-missing", Strength.WEAK, evidence=f"missing: {missing}"[:80]
        )

    def _for(self, url: str) -> Expectation | None:
        url = url[:_URL_LIMIT]
        return next((wanted for pattern, wanted in self.expectations if pattern.search(url)), None)


def _of_meta(value: object) -> Expectation:
    try:
        return Expectation.of(value)
    except Exception as error:
        msg = f"meta {META} is {value!r}, not a dict of css, bytes or min_size"
        raise ValueError(msg) from error


def _all_of(value: Any, kind: type) -> tuple[Any, ...]:
    items: Iterable[Any] = (value,) if isinstance(value, kind) else value
    items = tuple(items)
    if not all(isinstance(item, kind) and item for item in items):
        raise TypeError
    return items


def _parsel() -> Any:
    """Import parsel when it is first needed: it takes a tenth of a second."""
    return import_module("parsel")
