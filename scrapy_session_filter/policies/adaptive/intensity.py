"""How hard a session is being used, on several time scales at once."""

from __future__ import annotations

import math

WINDOWS = (10.0, 30.0, 60.0, 180.0, 600.0, 1800.0)
"""Seconds; the time scales on which a site may count. A true window lies within a factor of 1.8 of one."""
USUAL = 2
"""Index of the scale assumed until there is evidence: most limits are per minute."""
BINS = 48
"""Intensities are kept in bins, four to the octave, from 1 to 4096 uses per window."""


def bin_of(level: float) -> int:
    """Return the bin of an intensity."""
    if level <= 1.0:
        return 0
    b = int(4.0 * math.log2(level))
    return b if b < BINS else BINS - 1


def advance(levels: tuple[float, ...] | None, idle: float) -> tuple[float, ...]:
    """Return the intensities with one more use after ``idle`` seconds.

    The intensity on a scale is the number of uses, each forgotten exponentially over the window: a
    steady rate r gives r x window, a burst of n gives n.
    """
    if levels is None:
        return (1.0,) * len(WINDOWS)
    exp = math.exp
    return tuple([u * exp(-idle / w) + 1.0 for u, w in zip(levels, WINDOWS)])
