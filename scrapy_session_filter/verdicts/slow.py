"""A warning for other people's code that takes long: while it runs, the crawl stands still."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy_session_filter.verdict import Verdict
    from scrapy_session_filter.verdicts.answer import Answer
    from scrapy_session_filter.verdicts.detectors import Detector

logger = logging.getLogger("scrapy_session_filter")

SLOW = 0.2  #: seconds of one call


class Stopwatch:
    """Warns of each name that took long, once."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def stop(self, name: str, started: float) -> None:
        """Note the end of a call that started at ``started`` (`time.perf_counter`)."""
        seconds = time.perf_counter() - started
        if seconds > SLOW and name not in self._warned:
            self._warned.add(name)
            logger.warning(
                "%s took %.1f s for one answer; nothing else is fetched meanwhile (said once)",
                name,
                seconds,
            )


class Watched:
    """A detector whose calls are timed."""

    def __init__(self, detector: Detector, name: str, stopwatch: Stopwatch) -> None:
        self.detector, self.name = detector, name
        self._stopwatch = stopwatch

    def __call__(self, answer: Answer) -> Verdict | None:
        """Ask the detector."""
        started = time.perf_counter()
        try:
            return self.detector(answer)
        finally:
            self._stopwatch.stop(self.name, started)
