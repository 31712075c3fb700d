"""The adaptive policy: learn what a site allows, and come close to one who knew.

Each idea has its module: `limit` (how hard a session may be used), `ladder` (how long it rests),
`budget` (what exploring may cost), `drought` (how often to try where nothing works), `working` (the
choice among those that work) and `fresh` (new sessions); `choosing` puts them together, and `learning`
tells them what came of it. Whether the site itself is down, the pool decides for all policies.
"""

# ruff: noqa: D102 - the hooks are documented by `Policy`

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.choosing import Chooser
from scrapy_session_filter.policies.adaptive.intensity import Meter
from scrapy_session_filter.policies.adaptive.knowledge import Knowledge
from scrapy_session_filter.policies.adaptive.ladder import RUNGS
from scrapy_session_filter.policies.adaptive.learning import Learner
from scrapy_session_filter.policies.adaptive.record import WORKING, How, Pick, Record
from scrapy_session_filter.policies.base import Decision, Policy, PolicyContext

if TYPE_CHECKING:
    from scrapy_session_filter.policies.adaptive.vendors import Lessons
    from scrapy_session_filter.policies.base import Ask, Reaction
    from scrapy_session_filter.session import Lease, Outcome, Session

TRUSTED = 600.0
"""Seconds after its last success until a session is trusted half as much: many gateways give its exit
away by then, and what all of them then meet is no outage of the site."""
SURE = 5.0
"""Seconds for which it is trusted wholly: so a session in use needs no arithmetic."""


class AdaptivePolicy(Policy):
    """Learns the site's limit, paces itself, and explores as far as that pays."""

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        lessons: Lessons = context.common.setdefault("vendors", {})
        known = self._knowledge = Knowledge(context.rng, context.concurrency, lessons, context.site)
        self.vendor = known.vendor
        self.working = known.working
        self.ladder = known.ladder
        self.limit = known.limit
        self.lifetime = known.lifetime
        self.fresh = known.fresh
        self.subnets = known.subnets
        self.budget = known.budget
        self.drought = known.drought
        self._hops: dict[str, Pick] = {}  # of sessions whose redirect goes on
        self._chooser = Chooser(context, known)
        self._learner = Learner(context, known, self.cost)

    # -- membership ------------------------------------------------------------------------------

    def added(self, session: Session) -> None:
        record = Record(session)
        record.load(session.learnt, RUNGS)
        session.learnt = None  # the record has it now
        self.working.total += record.working
        session.memo = record

    def removed(self, session: Session) -> None:
        record: Record = session.memo
        self.working.leave(record)
        self.ladder.remove(record)
        self._hops.pop(session.id, None)
        if record.doubt is not None:
            self.budget.left()

    def ready(self, session: Session) -> None:
        record: Record = session.memo
        if record.working:
            self.working.enter(record)
        elif record.tried:
            self.ladder.add(record)

    def busy(self, session: Session) -> None:
        record: Record = session.memo
        self.working.pause(record)
        self.ladder.remove(record)

    # -- choosing --------------------------------------------------------------------------------

    def choose(self, ask: Ask) -> Decision:
        decision = self._chooser.choose(ask)
        session = decision.session
        if session is not None and self.lifetime.is_over(ask.now - session.born):
            self.budget.earn(decision.tag.price)  # it was not spent
            return Decision.drop(session)
        return decision

    def acquired(self, lease: Lease) -> None:
        record: Record = lease.session.memo
        if not isinstance(lease.tag, Pick):  # pinned, or the next hop of a redirect
            how = WORKING if record.working else How.PROBE if record.tried else How.FRESH
            hop = self._hops.pop(lease.session.id, None)
            lease.tag = Pick(how, record.rung, record.worked) if hop is None else hop
        pick = lease.tag
        if record.queue is not None:
            self.ladder.remove(record)
        if self.subnets.on and record.group is not None:
            self.subnets.use(record, record.group, pick, lease.acquired)
        if record.meter is None:
            record.meter = Meter(lease.acquired)
        pick.levels = levels = record.meter.use(lease.acquired)
        limit = self.limit
        if pick.trial:
            limit.trials.running += 1
        elif pick.how is WORKING and levels[limit.scale] > limit.safe:
            pick.scout = True
            limit.scouting += 1

    # -- learning --------------------------------------------------------------------------------

    def predict(self, lease: Lease) -> float:
        record: Record = lease.session.memo
        pick: Pick = lease.tag
        if pick.how is How.FRESH:
            return min(self.fresh.seen, self.fresh.chance)  # hearsay proves no outage
        if pick.how is How.PROBE:
            return self.ladder.chance(pick.worked, pick.rung)
        if not record.working:
            return 0.0
        chance = record.chance(self.working.mean)
        idle = lease.acquired - record.passed
        if idle < SURE:
            return chance
        trust = math.pow(0.5, idle / TRUSTED)
        return trust * chance + (1.0 - trust) * self.fresh.chance

    def report(self, lease: Lease, outcome: Outcome) -> Reaction:
        return self._learner.report(lease, outcome)

    def amended(self, session: Session, outcome: Outcome) -> Reaction:
        return self._learner.amended(session, outcome)

    def abandoned(self, lease: Lease) -> None:
        record: Record = lease.session.memo
        pick: Pick = lease.tag
        self._knowledge.landed(pick)
        if pick.how is not WORKING:
            self.budget.earn(pick.price)  # it was not spent
            self.drought.untried()
            self._knowledge.put_back(record)

    def paused(self, lease: Lease) -> None:
        record: Record = lease.session.memo
        self._knowledge.landed(lease.tag)
        self._hops[lease.session.id] = lease.tag
        self._knowledge.put_back(record)

    # -- state -----------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return self._knowledge.dump()

    def load(self, state: dict[str, Any]) -> None:
        self._knowledge.load(state, gateway=self.context.gateway)

    def dump_session(self, session: Session) -> Any:
        record: Record = session.memo
        return record.dump()

    def explain(self, now: float) -> str:
        told = self._knowledge.explain(now)
        if self.limit.cap == math.inf or self._chooser.cap(can_create=True) < math.inf:
            return told
        return (
            f"{told} The limit is not kept while new sessions are had so easily: that costs less."
        )
