"""The two things we need of Scrapy's engine that it has no public name for; nothing else does this."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy.crawler import Crawler


class EnginePulse:
    """Tells whether the spider closes, and has the engine ask its scheduler again in time."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._timer: asyncio.TimerHandle | None = None

    @property
    def closing(self) -> bool:
        """Whether the spider closes; Scrapy has no signal for the beginning of that."""
        slot = getattr(self._crawler.engine, "_slot", None)
        return slot is not None and slot.closing is not None

    def after(self, seconds: float) -> None:
        """Let the engine ask its scheduler again after so many seconds, or earlier.

        By itself it does so only after a response, or every five seconds.
        """
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._beat)

    def stop(self) -> None:
        """Leave the engine alone."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._timer = None
        slot = getattr(self._crawler.engine, "_slot", None)
        if slot is not None and slot.closing is None:
            slot.nextcall.schedule()
