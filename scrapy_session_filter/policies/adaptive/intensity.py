"""How hard a session is being used, on several time scales at once."""

from __future__ import annotations

import math

Levels = tuple[float, ...]
"""One session's intensity on each time scale."""

WINDOWS = (10.0, 30.0, 60.0, 180.0, 600.0, 1800.0)
"""Seconds: the scales on which a site may count. From 6 s to 50 min, one of them is within a factor
of 1.8 of the true window; the intensity differs by no more than that."""
USUAL = 2
"""Index of the scale that is assumed until there is evidence: most limits are per minute."""
BINS = 48
"""Intensities are counted in bins, four to the octave, from 1 to 4096 uses per window."""


_RATES = tuple(-1.0 / window for window in WINDOWS)

FIRST: Levels = (1.0,) * len(WINDOWS)
"""The intensities at the first use; one tuple for all sessions."""

_STEPS = 64  # of the lookup table, per unit of intensity
_TABLE = [
    max(0, int(4.0 * math.log2(max((i + 0.5) / _STEPS, 1.0)))) for i in range(_STEPS * _STEPS)
]


def bin_of(level: float) -> int:
    """Return the bin of an intensity, to 1/128 of a use; this is called often."""
    if level < _STEPS:
        return _TABLE[int(level * _STEPS)]
    return min(int(4.0 * math.log2(level)), BINS - 1)


def level_of(index: int) -> float:
    """Return the lower edge of a bin."""
    return math.pow(2.0, index / 4.0)


def advance(levels: Levels | None, idle: float) -> Levels:
    """Return the intensities with one more use, ``idle`` seconds after the last.

    The intensity on a scale is the number of uses, each forgotten exponentially over the window: a
    steady rate r has intensity r x window, a burst of n has n.
    """
    if levels is None:
        return FIRST
    exp = math.exp
    return tuple([u * exp(idle * rate) + 1.0 for u, rate in zip(levels, _RATES)])  # noqa: B905 - speed
