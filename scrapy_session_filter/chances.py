"""When a session may be had: told to requests that get none, and to the request queue beforehand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scrapy_session_filter.session import RESTING

if TYPE_CHECKING:
    from scrapy_session_filter.policies.health import SiteHealth
    from scrapy_session_filter.roster import Roster
    from scrapy_session_filter.tenure import Tenure
    from scrapy_session_filter.waiters import Waiters

SHORTEST_WAIT = 0.02
"""Seconds; a waiter asks again no sooner, unless it is woken."""
PIN_LOOK = 0.1
"""Seconds until the queue looks again for a session that is used to its limit."""
INIT_LOOK = 1.0
"""Seconds until those who wait for a session that is being prepared look again, unless woken."""
LAPSED = 1.0
"""Seconds until those who wait look again whether the claims in the store hold, unless woken."""
LONGEST_HOLD = 5.0
"""Seconds the queue holds a site that has no session ready, unless one becomes ready earlier."""


class Chances:
    """Estimates for one site, all in seconds; they ask no policy and change nothing that is learnt."""

    def __init__(
        self, roster: Roster, health: SiteHealth, waiters: Waiters, tenure: Tenure
    ) -> None:
        self._roster = roster
        self._health = health
        self._waiters = waiters
        self._tenure = tenure

    def next(self, now: float) -> float:
        """Return the time until a lease may be had, 0.0 if one may be had now."""
        if now >= self._tenure.until:
            return self.lapsed(now)
        roster, waiters = self._roster, self._waiters
        if now >= roster.due:
            roster.tick(now)
        if waiters.held_until <= now:
            if roster.ready and not self._health.down:
                return 0.0
            preparing = roster.inits is not None and roster.inits.waiting
            if not (roster.ready or preparing or roster.can_create(now)):
                self.wait(now, LONGEST_HOLD)
        return max(self._health.gate(now), waiters.held_until - now, 0.0)

    def of(self, session_id: str, now: float) -> float:
        """Return the time until this very session may be had, 0.0 if it may now, or never again."""
        roster = self._roster
        roster.tick(now)
        session = roster.sessions.get(session_id)
        if session is None or roster.is_spent(session) or roster.is_usable(session, now):
            return 0.0
        if roster.inits is not None and session in roster.inits.waiting:
            return 0.0  # a request that asks for it has it prepared
        due = session.wake if session.state is RESTING else session.free_at
        return max(PIN_LOOK, due - now)

    def wait(self, now: float, wanted: float, *, for_all: bool = True) -> float:
        """Return how long one who got none should wait, ``wanted`` at the most.

        ``for_all``: the same goes for any other request, and the queue holds the site so long; so it
        does where no session is ready.
        """
        roster = self._roster
        inits = roster.inits
        due = roster.next_due()
        if inits is not None and not roster.ready:
            wanted = max(wanted, INIT_LOOK)
            if due <= now:
                due = math.inf  # a proxy is free, but it is an init that has to end
        until = max(now + SHORTEST_WAIT, min(now + wanted, due))
        if inits is not None and inits.has_more_to_do(now):
            return until - now  # the next request may have another session prepared
        if for_all or not roster.ready:
            self._waiters.hold(until)
        return until - now

    def lapsed(self, now: float) -> float:
        """Return how long to wait where the claims in the store have run out."""
        self._waiters.hold(now + LAPSED)
        return LAPSED
