"""Whether a cap is too high for what its bans cost.

A block lowers the cap where blocks are frequent around it and rare below. Where soft blocks come at
any intensity, or the window is not quite the site's, that does not show, and sessions are lost under
a cap that is believed to hold. So the test for a change point is made once more among the uses under
the cap alone. If it finds one, and a page would cost clearly less session-time under a cap there, the
cap is lowered to it.

Blocks that come with time, and not with use, are met at whatever intensity is the usual one: they
follow the cap. So one that was lowered is not lowered again unless blocks became rarer by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_session_filter.policies.adaptive.intensity import BINS, bin_of, level_of

if TYPE_CHECKING:
    from scrapy_session_filter.policies.adaptive.hazard import HazardTable

CLEAR = 4.5
"""Nats for a change point under the cap."""
CHEAPER = 0.7
"""Session-time of a page under the lower cap, relative to that under the present one, at most."""
BAND = 4
"""Bins under the lower cap from which its hazard is taken: half an octave."""
REGROWN = 0.9
"""Share of the cap as it was when it was lowered from where on it counts as regrown: look anew."""
RARER = 0.5
"""Hazard at a lowered cap, relative to that before, for which it was worth it."""


class Review:
    """Looks for a better cap; it remembers the last one that it found too high."""

    def __init__(self) -> None:
        self._scale = -1
        self._cap = self._hazard = 0.0

    def lower(
        self, table: HazardTable, scale: int, window: float, cap: float, outage: float
    ) -> float:
        """Return a cap under the present one that is better for sure, or the present one.

        ``outage``: seconds for which a banned session is missing.
        """
        end = min(bin_of(cap) + 2, BINS)
        gain, at = table.split(scale, end)
        if gain < CLEAR or at + 2 >= end:
            return cap
        lower, hazard = level_of(at), table.rate(scale, at, end)
        time = window / cap + hazard * outage
        if window / lower + table.rate(scale, max(0, at - BAND), at) * outage > CHEAPER * time:
            return cap
        follows = hazard > RARER * self._hazard
        if scale == self._scale and cap < REGROWN * self._cap and follows:
            return cap
        self._scale, self._cap, self._hazard = scale, cap, hazard
        return lower
