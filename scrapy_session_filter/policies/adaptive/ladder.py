"""How long a blocked session rests, and when it is worth trying again.

A session that is blocked rests 2 s; each probe that fails doubles it. For each rung of this ladder,
and apart for sessions that ever worked, the share of probes that succeed is learnt: so permanent
bans cost a few probes per rung for the whole site, bans of 5 min are found at the right rung, and
soft blocks are back at once. A rested session that is not worth a probe climbs by time alone.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.saved import odds

if TYPE_CHECKING:
    from collections.abc import Collection

    from scrapy_session_filter.policies.adaptive.fresh import Pause
    from scrapy_session_filter.policies.adaptive.record import Record

FIRST_REST, FACTOR, RUNGS = 2.0, 2.0, 13
"""Seconds on the lowest rung, and from rung to rung; the highest is 2.3 h. Factor 4 costs .01."""
UNKNOWN, PRIOR = 1 / 3, 1.5
"""Chance of a probe from a rung of which nothing is known, and how many answers that is worth."""
EARLIEST = 60.0
"""Seconds that a session on a higher rung rests at least, as long as others work."""
RETURNED = 0.5
"""Successes, older ones discounted, from where on sessions are known to come back from a rung."""
FORGET = 0.97
"""Weight of older probes at each new one."""


class Ladder:
    """The sessions that have rested, by rung, and the odds of each rung."""

    def __init__(self) -> None:
        self._queues: list[list[deque[Record]]] = [
            [deque() for _ in range(RUNGS)] for _ in (False, True)
        ]
        self.odds = [[[0.0, 0.0] for _ in range(RUNGS)] for _ in (False, True)]  #: counts
        self.expected = [[[0.0, 0.0]] * RUNGS] * 2  #: what they are elsewhere, as so many answers
        self._newcomers = 0.5
        self._never: list[float] = []  # chances of those that never worked, by rung; empty: unknown
        self.waiting = 0

    @property
    def newcomers(self) -> float:
        """Chance of a new session: one that never worked is no better."""
        return self._newcomers

    @newcomers.setter
    def newcomers(self, chance: float) -> None:
        self._newcomers = chance
        self._never.clear()

    @staticmethod
    def rest(rung: int) -> float:
        """Return the seconds of rest on a rung."""
        return FIRST_REST * FACTOR**rung

    def add(self, record: Record) -> None:
        """Take in a session that has rested."""
        self.remove(record)
        record.queue = self._queues[record.worked][record.rung]
        record.queue.append(record)
        self.waiting += 1

    def remove(self, record: Record) -> None:
        """Let go of a session; its place in the queue is cleared when it comes up."""
        if record.queue is not None:
            record.queue = None
            self.waiting -= 1

    def best(
        self,
        now: float,
        avoid: Collection[str],
        tokens: float,
        pause: Pause | None = None,
        pace: float = math.inf,
        rest: float = 0.0,
    ) -> tuple[Record | None, float, float]:
        """Return the session whose probe is most likely to succeed, the chance, and its price.

        The session stays. A probe of one that has rested enough costs one token, an earlier one as
        many times more as is missing; what ``tokens`` do not pay is left out. So is an early one that
        is not expected to win a page in the time it is early, at ``pace`` pages a second: a site may
        begin a ban anew with each request. Where tokens are infinite, as nothing works, even those are
        offered that have not rested enough, but for ``rest`` seconds at least. ``pause`` says for how
        many seconds a subnet must not be used.
        """
        best: Record | None = None
        chance, price = 0.0, 1.0
        if not self.waiting:
            return best, chance, price
        for worked in (True, False):
            for rung in range(RUNGS):
                first = self._first(worked, rung, now)
                if first is None:
                    continue
                idle = max(now - first.failed, 0.1)
                if idle < rest:
                    continue
                cost = max(1.0, self.rest(rung) / idle)
                early = cost > 1.0 and tokens < math.inf
                if cost > tokens or (early and idle < EARLIEST):
                    continue
                odds = self.chance(worked, self.rested(first, now))
                if early and odds * pace * (self.rest(rung) - idle) < 1.0:
                    continue
                if tokens == math.inf and not worked:
                    # the longest rested is next, after those that worked
                    odds = min(self._never)
                odds /= cost
                if odds < chance:
                    continue
                if (avoid and first.session.id in avoid) or (
                    pause is not None and pause(first.group, now) > 0
                ):
                    self._queues[worked][rung].rotate(-1)
                else:
                    best, chance, price = first, odds, cost
        return best, chance, price

    @property
    def proven_rest(self) -> float:
        """Seconds of the longest rest after which one that ever worked came back; infinite: none did."""
        for rung in range(RUNGS - 1, -1, -1):
            if self.odds[True][rung][0] >= RETURNED:
                return self.rest(rung)
        return math.inf

    def rested(self, record: Record, now: float) -> int:
        """Return the rung up to which a session has rested; at most its own."""
        rung = record.rung
        idle = now - record.failed
        while rung and idle < self.rest(rung):
            rung -= 1
        return rung

    def _first(self, worked: bool, rung: int, now: float) -> Record | None:
        """Return the first of a queue; one that has rested enough for the next rung climbs."""
        queue = self._queues[worked][rung]
        while queue and queue[0].queue is not queue:
            queue.popleft()
        if not queue:
            return None
        first = queue[0]
        if rung + 1 < RUNGS and now - first.failed > self.rest(rung + 1):
            queue.popleft()
            first.rung = rung + 1
            self.add(first)
            return None
        return first

    def chance(self, worked: bool, rung: int) -> float:
        """Return the learnt chance that a probe from this rung succeeds."""
        if not worked:
            return (self._never or self._judge())[rung]
        good, answers = self._counts(True, rung)
        return (good + PRIOR * UNKNOWN) / (answers + PRIOR)

    def _counts(self, worked: bool, rung: int) -> tuple[float, float]:
        good, bad = self.odds[worked][rung]
        more_good, more_bad = self.expected[worked][rung]
        return good + more_good, good + bad + more_good + more_bad

    def _judge(self) -> list[float]:
        """Return, by rung, the chances of those that never worked.

        Where bans end at some rate, twice the rest is at most twice the chance: what is known of
        one rung bounds what is believed of the next. So a ban for good is not found out anew on
        every rung.
        """
        prior = most = min(UNKNOWN, self._newcomers)
        for rung in range(RUNGS):
            good, answers = self._counts(False, rung)
            self._never.append((good + PRIOR * prior) / (answers + PRIOR))
            prior = min(most, FACTOR * self._never[rung])
        return self._never

    def expect(self, odds: list[list[list[float]]]) -> None:
        """Take other sites' odds for likely, as if they were so many answers here."""
        self.expected = odds
        self._never.clear()

    def learn(self, worked: bool, rung: int, ok: bool) -> None:
        """Take in the answer to a probe."""
        counts = self.odds[worked][rung]
        counts[0] *= FORGET
        counts[1] *= FORGET
        counts[not ok] += 1.0
        if not worked:
            self._never.clear()

    def dump(self) -> list[list[list[float]]]:
        """Return the learnt odds as plain JSON."""
        return [[[round(value, 3) for value in pair] for pair in rungs] for rungs in self.odds]

    def load(self, state: Any) -> None:
        """Take back a `dump`; what does not fit is ignored."""
        for rungs, saved in zip(self.odds, read_odds(state), strict=True):
            rungs[:] = saved
        self._never.clear()

    def explain(self) -> str:
        """Say after how long a rest sessions come back; empty where no probe ever succeeded."""
        chances = [self.chance(True, rung) for rung in range(RUNGS)]
        best = max(range(RUNGS), key=chances.__getitem__)
        if chances[best] <= 0.35:
            return ""
        return (
            f"A blocked session is best tried again after {self.rest(best):.0f} s "
            f"({100 * chances[best]:.0f} % work then)."
        )


def read_odds(state: Any) -> list[list[list[float]]]:
    """Return saved odds by whether a session ever worked and by rung; none where they do not fit."""
    both = state if isinstance(state, list) and len(state) == 2 else ([], [])
    return [
        [odds(pair) or [0.0, 0.0] for pair in rungs]
        if isinstance(rungs, list) and len(rungs) == RUNGS
        else [[0.0, 0.0] for _ in range(RUNGS)]
        for rungs in both
    ]
