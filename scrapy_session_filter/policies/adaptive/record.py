"""What the adaptive policy knows of one session, and of one pick."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.intensity import WINDOWS, Meter
from scrapy_session_filter.policies.adaptive.saved import count, numbers

if TYPE_CHECKING:
    from collections import deque

    from scrapy_session_filter.policies.adaptive.intensity import Levels
    from scrapy_session_filter.session import Session

FORGET = 0.95
"""Weight that older answers keep at each new one: a session remembers about its last twenty."""


class How(IntEnum):
    """Why a session was picked: it works, it is new, or a resting one is tried again."""

    WORKING = 0
    FRESH = 1
    PROBE = 2


WORKING = How.WORKING  # by name: through the class it is dear before Python 3.12


class Pick:
    """One decision; it travels with the lease and comes back with the answer.

    ``rung`` and ``worked`` say where on the ladder a probe came from. ``levels`` are the session's
    intensities, this request included, and ``subnet`` those of its subnet, where they are counted.
    ``scout``: it went beyond the intensity known to be safe (``subnet_scout``: for a subnet);
    ``trial``: it tries a shorter window. ``price``: tokens that it cost.
    """

    levels: Levels = ()
    subnet: Levels = ()
    scout = False
    subnet_scout = False
    trial = False

    def __init__(self, how: How, rung: int = 0, worked: bool = False, price: float = 0.0) -> None:
        self.how = how
        self.rung = rung
        self.worked = worked
        self.price = price


class Record:
    """One session's past.

    ``good`` and ``bad`` are discounted counts of answers, ``latency`` a discounted sum of seconds
    of weight ``weight``. ``meter`` counts its uses; None before the first. ``working``: it is of the
    working set, at ``place`` there (-1 while it cannot take requests). ``rung``, ``failed`` (a
    time) and ``queue`` belong to the ladder. ``worked``: it ever succeeded, at
    ``passed`` for the last time. ``doubt``: the levels
    at a block of which we do not know yet whether it lasts, and ``counted`` whether the limit has
    learnt from it.
    """

    __slots__ = (
        "bad",
        "counted",
        "doubt",
        "elite",
        "failed",
        "good",
        "group",
        "latency",
        "meter",
        "passed",
        "place",
        "queue",
        "rung",
        "session",
        "weight",
        "worked",
        "working",
    )

    def __init__(self, session: Session) -> None:
        endpoint = session.endpoint
        self.session = session
        self.group = None if endpoint is None or endpoint.per_session else endpoint.group
        self.good = 0.0
        self.bad = 0.0
        self.latency = 0.0
        self.weight = 0.0
        self.meter: Meter | None = None
        self.working = False
        self.place = -1
        self.rung = 0
        self.failed = self.passed = session.used
        self.queue: deque[Record] | None = None
        self.worked = False
        self.doubt: Levels | None = None
        self.counted = False
        self.elite = False

    @property
    def tried(self) -> bool:
        """Whether any answer is known."""
        return self.good > 0 or self.bad > 0 or self.session.blocks > 0

    def chance(self, mean: float) -> float:
        """Return the chance of success, shrunk to ``mean`` by two pseudo-answers."""
        return (self.good + 2.0 * mean) / (self.good + self.bad + 2.0)

    def passed_in(self, latency: float) -> None:
        """Take in a success and the seconds that it took."""
        self.latency = self.latency * FORGET + latency
        self.weight = self.weight * FORGET + 1.0
        self.good = self.good * FORGET + 1.0
        self.bad *= FORGET

    def missed(self) -> None:
        """Take in a failure."""
        self.good *= FORGET
        self.bad = self.bad * FORGET + 1.0

    def dump(self) -> list[Any]:
        """Return what a restart should know, as plain JSON."""
        return [
            round(self.good, 3),
            round(self.bad, 3),
            round(self.latency, 3),
            round(self.weight, 3),
            self.rung,
            self.worked,
            self.working,
            [round(level, 3) for level in self.meter.levels(self.session.used)]
            if self.meter
            else [],
        ]

    def load(self, learnt: Any, rungs: int) -> None:
        """Take back a `dump`; anything else is ignored, and the session's own counts are used."""
        self.worked = self.working = self.session.proven
        self.good = 1.0 if self.worked else 0.0
        if not isinstance(learnt, list) or len(learnt) != 8:
            return
        answers, rung, levels = numbers(learnt[:4]), count(learnt[4], rungs - 1), learnt[7]
        if answers is None or rung is None:
            return
        self.good, self.bad, self.latency, self.weight = answers
        self.rung, self.worked, self.working = rung, bool(learnt[5]), bool(learnt[6])
        if isinstance(levels, list) and len(levels) == len(WINDOWS) and numbers(levels):
            self.meter = Meter(self.session.used, levels)
