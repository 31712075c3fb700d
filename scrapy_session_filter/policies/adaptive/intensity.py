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


def bin_of(level: float) -> int:
    """Return the bin of an intensity."""
    if level <= 1.0:
        return 0
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
        return (1.0,) * len(WINDOWS)
    exp = math.exp
    return tuple(
        [level * exp(-idle / window) + 1.0 for level, window in zip(levels, WINDOWS, strict=True)]
    )
