"""What the adaptive policy knows of one session, and of one pick."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrapy_session_filter.session import Session

FORGET = 0.95
"""Weight that a session's older answers keep at each new one: it remembers about twenty."""


class Record:
    """One session's past: ``good`` and ``bad`` answers, latency, intensity, place on the ladder.

    ``levels`` are its intensities on each scale of `intensity.WINDOWS` at time ``last``. ``rung`` and
    ``failed`` (a time) belong to the ladder, ``place`` (-1: not in it) to the working set. ``worked``:
    it succeeded at least once. ``doubt`` holds the levels of a block of which we do not know yet
    whether it lasts.
    """

    __slots__ = (
        "bad", "doubt", "failed", "good", "group", "last", "latency", "levels", "place",
        "queue", "rung", "session", "weight", "worked",
    )

    def __init__(self, session: Session, group: str | None, now: float) -> None:
        self.session = session
        self.group = group
        self.good = self.bad = 0.0
        self.latency = self.weight = 0.0  # discounted sum of seconds, and its weight
        self.levels: tuple[float, ...] | None = None
        self.last = now
        self.rung = 0
        self.failed = now
        self.worked = False
        self.place = -1
        self.queue: Any = None
        self.doubt: tuple[float, ...] | None = None

    def count(self, ok: bool) -> None:
        """Take in one answer."""
        self.good *= FORGET
        self.bad *= FORGET
        if ok:
            self.good += 1.0
        else:
            self.bad += 1.0

    def timed(self, latency: float) -> None:
        """Take in the latency of a success, in seconds."""
        self.latency = self.latency * FORGET + latency
        self.weight = self.weight * FORGET + 1.0


class Pick:
    """How a session was picked; travels with the lease.

    ``how`` is one of the constants below; ``levels`` are the intensities with this request; ``scout``:
    it goes beyond the intensity known to be safe.
    """

    __slots__ = ("how", "rung", "worked", "levels", "scout", "paid")

    def __init__(self, how: int, rung: int = 0, worked: bool = False, paid: float = 0.0) -> None:
        self.how = how
        self.rung = rung
        self.worked = worked
        self.paid = paid
        self.levels: tuple[float, ...] = ()
        self.scout = False


EXPLOIT, FRESH, PROBE = 0, 1, 2
