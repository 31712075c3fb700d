"""An extension for crawls under test: how long the event loop was held up, and by what."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from threading import get_native_id
from typing import TYPE_CHECKING

from scrapy import signals

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from typing_extensions import Self

TICK = 0.005  # seconds
NOTED = 0.02  # seconds; shorter delays are left out


class Lag:
    """Writes the stat ``lag``: [when, seconds] for each time the loop stood still.

    What the thread spent running or waiting for a processor does not count: that is the machine's
    business. What is left is sleep in a call that should have been made elsewhere.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._noted: list[tuple[float, float]] = []
        crawler.signals.connect(self.spider_opened, signals.spider_opened)
        crawler.signals.connect(self.spider_closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    def spider_opened(self) -> None:
        self._schedule = Path(f"/proc/self/task/{get_native_id()}/schedstat")
        self._watching = asyncio.ensure_future(self._watch())

    def spider_closed(self) -> None:
        self._watching.cancel()
        assert self._crawler.stats is not None
        self._crawler.stats.set_value("lag", self._noted)

    async def _watch(self) -> None:
        then, busy = time.monotonic(), self._busy()
        while True:
            await asyncio.sleep(TICK)
            now, busy_now = time.monotonic(), self._busy()
            still = now - then - TICK - (busy_now - busy)
            if still > NOTED:
                self._noted.append((now, still))
            then, busy = now, busy_now

    def _busy(self) -> float:
        """Seconds this thread has run or waited for a processor."""
        ran, waited, _ = self._schedule.read_text(encoding="ascii").split()
        return (int(ran) + int(waited)) / 1e9
