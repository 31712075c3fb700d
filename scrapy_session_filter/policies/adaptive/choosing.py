"""Which session takes the next request: one that works, a new or a rested one, or none for now."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from scrapy_session_filter.policies.adaptive.budget import CROWDING
from scrapy_session_filter.policies.adaptive.fresh import NOWHERE
from scrapy_session_filter.policies.adaptive.intensity import bin_of
from scrapy_session_filter.policies.adaptive.record import WORKING, How, Pick
from scrapy_session_filter.policies.adaptive.working import LOOK, Choice
from scrapy_session_filter.policies.base import Decision

if TYPE_CHECKING:
    from scrapy_session_filter.policies.adaptive.fresh import Pause
    from scrapy_session_filter.policies.adaptive.knowledge import Knowledge
    from scrapy_session_filter.policies.base import Ask, PolicyContext

SLOW = 1.0
"""Seconds that a request is taken to last at least, when a wait is weighed against requests: where
pages come in milliseconds, a second's wait is not worth a dozen requests that will be blocked."""
LONGEST_WAIT, SHORTEST_WAIT = 1.0, 0.05
"""Seconds; a waiter looks again within them."""
RISKED = 0.3
"""Going beyond the cap is right where its risk costs less than this share of the wait it saves."""
PATIENCE = 2.0
"""Where a short list is used up, two raises of the cap are at least so many times (seconds that a ban
lasts / working sessions) apart: a tenth more from all of them is to be worth the ban of one, taken to
come of one raise in five."""
DEAR = 0.15
"""Requests that bans may cost a page for a limit not to be kept. Keeping it costs about as many: the
load goes to slower sessions, too, and more of them have to be found. .1 and .25 are as good."""
LASTING = 4.0
"""And the proxies of a list that are still unused are to replace so many times the sessions that are
banned now: so not keeping a limit costs a fifth of a list at most."""
NEWNESS = 0.95
"""Value of a new session of certain success, relative to a known one: it has to connect anew, and
has no cookies. Without it, a site that blocks nobody would get a new visitor with each request."""
LONG_ENOUGH = 4.0
"""Where nothing works, no session has to rest longer than so many times what was enough for another:
else bans that end by themselves are waited out many times over."""
RESERVED = 3
"""Pages that have failed so often only go where it works,"""
STUCK = 10.0
"""unless that is further off than so many seconds: there may be no other pages left to explore with."""
DESPERATE = 6
"""Failures from where on that time doubles with each: a page that has few attempts left is not lost."""


class Chooser:
    """Chooses by what is known of the site; it learns nothing but what a choice costs."""

    def __init__(self, context: PolicyContext, known: Knowledge) -> None:
        self._context = context
        self._known = known
        self._working, self._limit, self._budget = known.working, known.limit, known.budget
        self._few = 2 * context.concurrency
        self._asked = 0

    def choose(self, ask: Ask) -> Decision:
        """Decide for one request."""
        scarce = not ask.can_create
        known, limit = self._known, self._limit
        sessions = len(self._working.members)
        few = scarce and sessions < self._few
        dear = few and not limit.is_told  # where it is, meeting the limit is no ban
        limit.patience = PATIENCE * self._budget.outage / (sessions or 1) if dear else 0.0
        # for most requests it needs no look: nobody scouts, and there is no other window to try
        scouts = not limit.scouting or limit.scouts_left(sessions, scarce)
        trials = limit.trials.scale >= 0 and self._budget.dares and limit.trials.may_begin(ask.now)
        pause = known.subnets.pause if known.subnets.on else None
        cap = self.cap(ask.can_create)
        choice = self._working.choose(ask, limit, cap, known.fresh, scouts, trials, few, pause)
        return (
            self._explore(ask, choice, pause)
            or self._exploit(choice)
            or self._go_beyond(ask, choice)
            or self._hold(ask, choice)
        )

    def cap(self, can_create: bool) -> float:
        """Return the intensity to stay under; infinite where bans cost less than staying under it.

        That is where few uses beyond the cap are blocked and new sessions are easily had, as at a
        site that allows each address so many pages in all: pacing itself would not help there. What
        the site itself asks for is kept.
        """
        limit, chance = self._limit, self._known.fresh.chance
        if limit.cap == math.inf or limit.is_told or not can_create:
            return limit.cap
        bans = limit.table.hazard[bin_of(limit.cap)] * (1.0 + 1.0 / chance)
        if bans > DEAR:
            return limit.cap
        spare = math.inf if self._context.gateway else chance * self._context.free()
        return math.inf if LASTING * self._budget.out < spare else limit.cap

    def _explore(self, ask: Ask, choice: Choice, pause: Pause | None) -> Decision | None:
        """Try a new or a rested session where it is paid for, promises more, or nothing else works.

        A page that was blocked before never explores while a working session is available.
        """
        self._asked += 1
        if ask.attempt and choice.record is not None:
            return None
        budget, dry = self._budget, not self._working.total
        if dry:
            if self._known.drought.wait(ask.now) > 0:
                return None
        elif ask.attempt >= RESERVED and not self._is_stuck(ask, choice):
            return None
        fresh = self._known.fresh.chance if ask.can_create else 0.0
        # the ladder is looked at when it may matter, and now and then so that sessions climb it
        matters = choice.record is None or budget.tokens >= 1 or fresh > choice.value
        if (not matters and self._asked & 3) or not (fresh or self._known.ladder.waiting):
            return None  # or there is none to try
        tokens = math.inf if dry else budget.tokens
        pause = None if dry else pause
        rest = self._rest(ask.now) if dry else 0.0
        probe, chance, price = self._known.ladder.best(
            ask.now, ask.avoid, tokens, pause, self._known.pace, rest
        )
        best = max(fresh, chance)
        if best <= 0:
            return None
        new = probe is None or fresh >= chance
        price = self._known.budget.price(best) * (1.0 if new else price)
        promising = choice.record is not None and NEWNESS * best > choice.value
        if dry:
            price = 0.0
        elif budget.tokens < price and not promising:
            return None
        if probe is None or new:
            return self._make(price, ask.now, pause)
        self._pay(price, ask.now)
        rung = self._known.ladder.rested(probe, ask.now)
        self._known.ladder.remove(probe)
        return Decision.use(probe.session, "probe", Pick(How.PROBE, rung, probe.worked, price))

    def _make(self, price: float, now: float, pause: Pause | None) -> Decision | None:
        """Try a new session, unless it would be of a subnet that must not be used."""
        group = self._known.fresh.choose(self._context.free_groups(), now, pause)
        if group == NOWHERE:
            return None
        self._pay(price, now)
        return Decision.new("new", group, Pick(How.FRESH, price=price))

    def _rest(self, now: float) -> float:
        """Return the seconds that a session must have rested where nothing works."""
        known = self._known
        return min(known.drought.rest(now), LONG_ENOUGH * known.ladder.proven_rest)

    def _pay(self, price: float, now: float) -> None:
        self._known.budget.tokens -= price
        if not self._known.working.total:
            self._known.drought.tried(now)

    def _is_stuck(self, ask: Ask, choice: Choice) -> bool:
        """Return whether waiting for a session that works will not help this page soon."""
        if choice.wait < math.inf:
            return choice.wait > STUCK * 2.0 ** max(0, ask.attempt - DESPERATE)
        return len(self._known.working) <= len(ask.avoid)  # it has failed on all of them

    def _exploit(self, choice: Choice) -> Decision | None:
        """Use a working session; what scarcity costs on this pick is what exploring may cost."""
        if choice.record is None:
            return None
        session = choice.record.session
        replacing = self._known.fresh.replacing
        self._budget.earn(choice.risk * replacing + CROWDING * session.in_flight)
        pick = Pick(WORKING)
        if choice.trial:
            pick.trial = True
            return Decision.use(session, "trial", pick)
        return Decision.use(session, "working", pick)

    def _go_beyond(self, ask: Ask, choice: Choice) -> Decision | None:
        """Use a session over the cap where waiting would cost more than the ban it risks."""
        if choice.over is None:
            return None
        known, limit = self._known, self._known.limit
        choice.wait *= min(1.0, LOOK / len(known.working))  # the others are under the cap earlier
        cost = known.pages_of_a_ban
        if ask.can_create:
            cost = min(cost, 1.0 / known.fresh.chance)
        wait = max(SHORTEST_WAIT, choice.wait) / max(known.working.latency, SLOW)
        risk = limit.table.hazard[bin_of(choice.level)] * (1.0 + cost)
        if risk >= RISKED * wait:
            return None
        known.budget.earn(min(risk, 1.0))
        return Decision.use(choice.over.session, "risked", Pick(WORKING))

    def _hold(self, ask: Ask, choice: Choice) -> Decision:
        wait = choice.wait
        if not self._known.working.total:
            wait = min(wait, self._known.drought.wait(ask.now))
        wait = min(wait, LONGEST_WAIT)
        self._known.budget.earn(wait / max(self._known.working.latency, SLOW))
        return Decision.hold(max(SHORTEST_WAIT, wait))
