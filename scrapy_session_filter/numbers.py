"""What is counted for the crawl's stats, and the line that sums it up."""

from __future__ import annotations

import logging
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from scrapy_session_filter.explaining import explain
from scrapy_session_filter.verdict import KIND_OK, Kind

if TYPE_CHECKING:
    from scrapy.statscollectors import StatsCollector

    from scrapy_session_filter.pools import SitePools
    from scrapy_session_filter.verdict import Verdict

logger = logging.getLogger("scrapy_session_filter")

PREFIX = "session_filter/"
TOLD = 5
"""Sites of which the log says at the end what was learnt; of more, only at level DEBUG."""
MOST_REASONS = 100
"""Reasons counted by name; a site could otherwise make ever new ones."""


class Numbers:
    """Counts events by name; Scrapy's stats get them at `flush`, as they are dear to reach."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._reasons: set[str] = set()

    def count(self, name: str, number: int = 1) -> None:
        """Count an event, or several at once."""
        self._counts[name] += number

    def count_verdict(self, verdict: Verdict) -> None:
        """Count a verdict by kind, and what was not a page by vendor and reason, up to a bound."""
        if verdict.kind is KIND_OK:
            self.count("verdicts/OK")  # no text is made for each page
            return
        self.count(f"verdicts/{verdict.kind}")
        name = f"{verdict.vendor or 'unnamed'}/{verdict.reason}"
        if name not in self._reasons:
            if len(self._reasons) >= MOST_REASONS:
                name = "other"
            self._reasons.add(name)
        self.count(f"{'blocked' if verdict.kind is Kind.BLOCKED else 'reasons'}/{name}")

    def flush(self, stats: StatsCollector) -> None:
        """Add what was counted since the last time to the crawl's stats."""
        for name in list(self._counts):
            stats.inc_value(PREFIX + name, self._counts[name])
            del self._counts[name]  # not before: a collector of the project's own may fail

    def sum_up(self, stats: StatsCollector, pools: SitePools) -> None:
        """Set the final numbers, and say what was learnt of the sites and how the crawl went."""
        self.flush(stats)
        resting = sum(pool.roster.resting for pool in pools)
        live = sum(len(pool.sessions) for pool in pools) - resting
        for name, value in (
            ("sessions/live", live),
            ("sessions/resting", resting),
            ("sessions/restored", pools.restored.kept),
            ("in_flight", sum(pool.in_flight for pool in pools)),
        ):
            stats.set_value(PREFIX + name, value)
        for told, pool in enumerate(pools):
            logger.log(logging.INFO if told < TOLD else logging.DEBUG, "%s", explain(pool))
        get = partial(stats.get_value, default=0)
        logger.info(
            "%d pages with %d requests: %d blocked, %d throttled, %d proxy errors, %d given up; "
            "%d sessions live, %d resting, %d retired, %d restored",
            get(PREFIX + "verdicts/OK"),
            get(PREFIX + "requests"),
            get(PREFIX + "verdicts/BLOCKED"),
            get(PREFIX + "verdicts/THROTTLED"),
            get(PREFIX + "verdicts/PROXY_ERROR"),
            get(PREFIX + "gave_up"),
            live,
            resting,
            get(PREFIX + "sessions/retired"),
            pools.restored.kept,
        )
