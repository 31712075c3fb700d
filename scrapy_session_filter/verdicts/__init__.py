"""What an answer says about the session that fetched it."""

from __future__ import annotations

from scrapy_session_filter.verdict import About, Kind, Strength, Verdict
from scrapy_session_filter.verdicts.answer import Answer
from scrapy_session_filter.verdicts.detectors import BUILT_IN, Detector
from scrapy_session_filter.verdicts.judging import Explanation, Judge, judge
from scrapy_session_filter.verdicts.rules import Rule, Where
from scrapy_session_filter.verdicts.slow import Stopwatch

__all__ = [
    "BUILT_IN",
    "About",
    "Answer",
    "Detector",
    "Explanation",
    "Judge",
    "Kind",
    "Rule",
    "Stopwatch",
    "Strength",
    "Verdict",
    "Where",
    "judge",
]
