"""How hard a session is being used, on several time scales at once."""

from __future__ import annotations

import math
import struct
from array import array
from math import floor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Levels = tuple[float, ...]
"""One session's intensity on each time scale."""

DECAYING = (10.0, 30.0, 60.0, 180.0, 600.0, 1800.0)
COUNTING = (10.0, 30.0, 60.0)
WINDOWS = (*DECAYING, *COUNTING)
"""Seconds: the scales on which a site may count. From 6 s to 50 min, one of them is within a factor
of 1.8 of the true window; the intensity differs by no more than that. On the first ones uses are
forgotten bit by bit, as in a leaking bucket; on the last, all at once when their window is over, as
in HAProxy's stick tables. Which is right, the blocks tell."""
FIRST: Levels = (1.0,) * len(WINDOWS)
"""The intensities of a first use."""
USUAL = 2
"""Index of the scale that is assumed until there is evidence: most limits are per minute."""
BINS = 96
"""Intensities are counted in bins, eight to the octave, from 1 to 4096 uses per window."""

_RATES = tuple(-1.0 / window for window in DECAYING)
STEPS = 64.0  #: of `BIN_AT`, per unit of intensity; 8 log2(64) = 48 bins
BIN_AT = [max(0, int(8.0 * math.log2(max((i + 0.5) / STEPS, 1.0)))) for i in range(64 * 64)]
"""`bin_of` all intensities below `STEPS`, by step."""

_BUCKETS = len(DECAYING)  # index of the first counting scale
_BEGAN = _BUCKETS  # in a meter's state: when the windows began, their counts, those before
_COUNT, _BEFORE = _BEGAN + len(COUNTING), _BEGAN + 2 * len(COUNTING)
_STATE = struct.Struct(f"{_BEFORE + len(COUNTING)}d")
_read, _write = _STATE.unpack, _STATE.pack_into  # all at once costs as much as five single ones


def bin_of(level: float) -> int:
    """Return the bin of an intensity, to 1/128 of a use or of itself."""
    if level < STEPS:
        return BIN_AT[floor(level * STEPS)]  # int() takes three times as long
    return BIN_AT[floor(level)] + 48 if level < STEPS * STEPS else BINS - 1


def level_of(index: int) -> float:
    """Return the lower edge of a bin."""
    return math.pow(2.0, index / 8.0)


class Meter:
    """Counts one session's uses; 250 bytes.

    A decaying scale forgets them exponentially: a steady rate r has intensity r x window, a burst of
    n has n. On a counting scale there are the uses in the window that began at some time, and those
    in the one before, which count with the share of it that is less than a window ago.
    """

    __slots__ = ("last", "state")

    def __init__(self, now: float, levels: Sequence[float] = (0.0,) * len(WINDOWS)) -> None:
        """Begin with such intensities, all of it now."""
        self.last = now
        u10, u30, u60, u180, u600, u1800, n10, n30, n60 = levels
        self.state = array(
            "d",
            _STATE.pack(
                u10, u30, u60, u180, u600, u1800, now, now, now, n10, n30, n60, 0.0, 0.0, 0.0
            ),
        )

    def use(self, now: float) -> Levels:
        """Count a use, and return the intensities with it; unrolled, as every request pays for it."""
        idle, exp, state = now - self.last, math.exp, self.state
        self.last = now
        u10, u30, u60, u180, u600, u1800, t10, t30, t60, n10, n30, n60, b10, b30, b60 = _read(state)
        if now - t10 >= 10.0 or now - t30 >= 30.0 or now - t60 >= 60.0:
            self._turn(now)
            t10, t30, t60, n10, n30, n60, b10, b30, b60 = state[_BEGAN:]
        u10 = u10 * exp(idle / -10.0) + 1.0
        u30 = u30 * exp(idle / -30.0) + 1.0
        u60 = u60 * exp(idle / -60.0) + 1.0
        u180 = u180 * exp(idle / -180.0) + 1.0
        u600 = u600 * exp(idle / -600.0) + 1.0
        u1800 = u1800 * exp(idle / -1800.0) + 1.0
        n10 += 1.0
        n30 += 1.0
        n60 += 1.0
        _write(
            state, 0, u10, u30, u60, u180, u600, u1800, t10, t30, t60, n10, n30, n60, b10, b30, b60
        )
        n10 += b10 * (1.0 - (now - t10) / 10.0)
        n30 += b30 * (1.0 - (now - t30) / 30.0)
        n60 += b60 * (1.0 - (now - t60) / 60.0)
        return u10, u30, u60, u180, u600, u1800, n10, n30, n60

    def add(self, levels: Levels) -> None:
        """Add another meter's intensities, as they are at the last use of this one."""
        for scale, level in enumerate(levels):
            at = scale if scale < _BUCKETS else _COUNT + scale - _BUCKETS
            self.state[at] += level

    def _turn(self, now: float) -> None:
        """Begin new windows in place of those that are over."""
        state = self.state
        for scale, window in enumerate(COUNTING):
            gone = now - state[_BEGAN + scale]
            if gone >= window:
                recent = gone < 2.0 * window
                state[_BEFORE + scale] = state[_COUNT + scale] if recent else 0.0
                state[_BEGAN + scale] = state[_BEGAN + scale] + window if recent else now
                state[_COUNT + scale] = 0.0

    def level(self, scale: int, now: float) -> float:
        """Return the intensity that one more use would have now."""
        state = self.state
        if scale < _BUCKETS:
            return 1.0 + state[scale] * math.exp((now - self.last) * _RATES[scale])
        window = WINDOWS[scale]
        scale -= _BUCKETS
        gone = now - state[_BEGAN + scale]
        if gone < window:
            before = state[_BEFORE + scale]
            count = state[_COUNT + scale] + 1.0
            return count + before * (1.0 - gone / window) if before else count
        if gone < 2.0 * window:
            return 1.0 + state[_COUNT + scale] * (2.0 - gone / window)
        return 1.0

    def wait(self, scale: int, now: float, most: float) -> float:
        """Return the seconds until one more use has at most the intensity ``most``, over 1."""
        if scale < _BUCKETS:
            level = self.level(scale, now)
            return WINDOWS[scale] * math.log((level - 1.0) / (most - 1.0)) if level > most else 0.0
        state, window = self.state, WINDOWS[scale]
        scale -= _BUCKETS
        began, count, before = (state[at + scale] for at in (_BEGAN, _COUNT, _BEFORE))
        if now - began >= window or count + 1.0 > most:  # what counts then is the window before
            began, count, before = began + window, 0.0, count
        over = before + count + 1.0 - most
        due = began + over * window / before if over > 0.0 and before else began
        return max(0.0, due - now)

    def levels(self, now: float) -> Levels:
        """Return the intensities now, without another use."""
        return tuple(self.level(scale, now) - 1.0 for scale in range(len(WINDOWS)))
