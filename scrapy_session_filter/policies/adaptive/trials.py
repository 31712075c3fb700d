"""Requests that try a shorter window than the one assumed.

In the first seconds no window can be told from a shorter one: all uses lie in both. Waiting for the
longer one to end would be slow where it is not the true one, so a few requests at once try the
shortest that explains the blocks as well: over the cap on the long scale, under it on the short one.
"""

from __future__ import annotations

import math

from scrapy_session_filter.policies.adaptive.intensity import WINDOWS

AT_ONCE = 2
"""Requests at once that try a shorter window."""
UNDER = 0.95
"""The cap on another scale than before, relative to the edge there."""
PROOF = 12
"""Trials in a row, over the intensity that was blocked on the long scale, that prove the short one."""


class Trials:
    """Which shorter window is tried, and how that goes."""

    def __init__(self) -> None:
        self.scale = -1  #: of the window that is tried; -1: there is none
        self.edge = 0.0  #: the intensity there that separates blocks from passes best
        self.cap = 0.0  #: that no trial exceeds
        self.running = 0  #: requests in flight that try it
        self._passed = 0  # in a row
        self._next_at = -math.inf
        self._failed = [0] * len(WINDOWS)  # by scale

    def may_begin(self, now: float) -> bool:
        """Return whether another request may try the shorter window."""
        return self.scale >= 0 and self.running < AT_ONCE and now > self._next_at

    def aim(self, scale: int, edge: float = 0.0) -> None:
        """Try the window of this scale from now on, which would have its limit at ``edge``; -1: none."""
        if scale != self.scale:
            self._passed = 0
        self.scale, self.edge, self.cap = scale, edge, UNDER * edge

    def passed(self) -> bool:
        """Learn of a success beyond what was blocked; return whether that proves the window."""
        self._passed += 1
        return self._passed >= PROOF

    def blocked(self, now: float) -> None:
        """Learn of a block; the next trial waits longer than the one before."""
        self._passed = 0
        if self.scale >= 0 and now > self._next_at:
            self._failed[self.scale] += 1
            self._next_at = now + WINDOWS[self.scale] * 2.0 ** min(self._failed[self.scale] - 2, 8)
