"""The adaptive policy: learn what a site allows, and come close to one who knew.

Each idea has its module: `limit` (how hard a session may be used), `ladder` (how long it rests),
`budget` (what exploring may cost), `drought` (how often to try where nothing works), `working` (the
choice among those that work) and `fresh` (new sessions); `choosing` puts them together. Whether the
site itself is down, the pool decides for all policies.
"""

# ruff: noqa: D102 - the hooks are documented by `Policy`

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.choosing import NEWNESS, Chooser
from scrapy_session_filter.policies.adaptive.intensity import Meter
from scrapy_session_filter.policies.adaptive.knowledge import Knowledge
from scrapy_session_filter.policies.adaptive.ladder import RUNGS
from scrapy_session_filter.policies.adaptive.record import WORKING, How, Pick, Record
from scrapy_session_filter.policies.base import (
    KEEP,
    RETIRE,
    THROTTLED_REST,
    Decision,
    Policy,
    PolicyContext,
    Reaction,
)
from scrapy_session_filter.verdict import KIND_OK, Kind, Strength

if TYPE_CHECKING:
    from scrapy_session_filter.policies.adaptive.vendors import Lessons
    from scrapy_session_filter.policies.base import Ask
    from scrapy_session_filter.session import Lease, Outcome, Session

LONGEST_REST = 10.0
"""Seconds after which the pool may offer a blocked session again; the rest is up to the ladder."""
TRUSTED = 600.0
"""Seconds after its last success until a session is trusted half as much: many gateways give its exit
away by then, and what all of them then meet is no outage of the site."""
SURE = 5.0
"""Seconds for which it is trusted wholly: so a session in use needs no arithmetic."""
GIVE_UP_RUNG = 8
"""From where on (512 s) a session at a gateway goes: new ones never run out there."""
QUICK_RUNG = 1
"""A block that is gone by this rung did not last: it was not the limit's."""
PASSING = 0.5
"""Chance that a block is gone after its first rest, from where on only those that last are counted,
unless blocks are known to depend on intensity."""


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
            limit.trying += 1
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
        record: Record = lease.session.memo
        pick: Pick = lease.tag
        if pick.scout or pick.trial or pick.subnet_scout:
            self._landed(pick)
        kind = outcome.verdict.kind
        if kind is KIND_OK:
            self._succeeded(record, pick, outcome)
            return KEEP
        if kind is Kind.SITE_ERROR or outcome.site_down:
            return self._nobodys_fault(record, pick, outcome)
        if outcome.stale and record.working:
            return KEEP  # sent before a block since when it came back: that was the same burst
        self._learn_odds(record, pick, ok=False)
        record.missed()
        if outcome.verdict.vendor and outcome.verdict.is_block:
            self.vendor.blocked(outcome.verdict.vendor)
        if kind is Kind.PROXY_ERROR:
            return self._proxy_failed(record, pick, outcome)
        return self._was_blocked(record, pick, outcome)

    def _landed(self, pick: Pick) -> None:
        self.subnets.landed(pick)
        if pick.scout:
            pick.scout = False
            self.limit.scouting -= 1
        elif pick.trial:
            self.limit.trying -= 1

    def _learn_odds(self, record: Record, pick: Pick, ok: bool) -> None:
        if pick.how is WORKING:
            if ok or record.working:
                self.working.learn(ok)
        elif pick.how is How.FRESH:
            self.fresh.learn(record.group, ok)
            self.ladder.newcomers = self.fresh.chance
        else:
            self.ladder.learn(pick.worked, pick.rung, ok)

    def _nobodys_fault(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        reaction = self.cost(record.session, outcome) if not outcome.site_down else KEEP
        if pick.how is not WORKING and not record.working:
            never = pick.how is How.PROBE and not pick.worked
            if outcome.verdict.kind is not Kind.SITE_ERROR and not never:
                # the odds must fall, else a pool that is banned as a whole looks like a dead site
                # for ever: what fails as predicted is no outage (those that never worked are
                # predicted no better than new ones, and would be given up for good)
                self._learn_odds(record, pick, ok=False)
            self._put_back(record)
            return Reaction(
                rest=max(reaction.rest, min(self.ladder.rest(record.rung), LONGEST_REST))
            )
        return reaction

    def _succeeded(self, record: Record, pick: Pick, outcome: Outcome) -> None:
        now = outcome.now
        record.passed_in(outcome.latency)
        self.working.passed_in(outcome.latency)
        self._learn_odds(record, pick, ok=True)
        self.budget.pages += 1
        self.drought.passed(now, self.fresh.chance)
        if self.subnets.known and record.group is not None:
            self._acquit(self.subnets.passed(record.group, pick, outcome), outcome)
        if pick.how is WORKING:
            self.limit.passed(pick.levels, now, outcome.sent)
            if pick.trial:
                self.limit.trial_passed(pick.levels, now)
            if outcome.stale:
                return  # sent before its last block: it says nothing about now
            if self.context.gateway:
                self._learn_lifetime(record, outcome, None)
        else:
            self.budget.earn(NEWNESS * pick.price)
            self.budget.stints += 1
        if record.doubt is not None:
            lasted = max(pick.rung, record.rung) > QUICK_RUNG
            self.budget.came_back(now, lasted)
            if not lasted and record.counted:
                self.limit.cleared(record.doubt, now)
            record.doubt = None
        record.worked = True
        record.passed = now
        record.rung = 0
        if record.place < 0:
            self.ladder.remove(record)
            self.working.enter(record)

    def _proxy_failed(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        if pick.how is WORKING and (not record.working or record.good >= record.bad):
            return KEEP
        if pick.how is not WORKING and record.worked:
            # that says nothing of the ban: the next request shows (resting on costs .007)
            self.working.enter(record)
            return KEEP
        if self.context.gateway and not record.worked:
            return RETIRE
        return self._rest(record, pick, outcome)

    def _was_blocked(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        verdict = outcome.verdict
        if pick.how is WORKING:
            if not record.working:
                return KEEP  # one more of the same burst
            told = None
            if verdict.kind is Kind.THROTTLED:
                told = verdict.retry_after or THROTTLED_REST
            if told is None and self._is_lifes_end(record, outcome):
                return RETIRE
            if record.group is not None and self._is_subnets(record, record.group, pick, outcome):
                return self._rest(record, pick, outcome)
            if told is None:
                if record.doubt is None:
                    self.budget.went_out(outcome.now)
                record.doubt = pick.levels
            if pick.trial and told is None:
                record.counted = True
                self.limit.trial_blocked(pick.levels, outcome.now)
                self.budget.lose(self._knowledge.pages_of_a_ban)
            elif told is not None or self._tells_of_limit:
                record.counted = told is None
                self.limit.blocked(pick.levels, outcome.now, retry_after=told, outage=self._missing)
            else:
                record.counted = False
        elif self.context.gateway and (not record.worked or record.rung >= GIVE_UP_RUNG):
            # a bare status proves little: once more, and where another session gets through
            repeated = record.session.blocks > 1 and outcome.others_pass
            if repeated or verdict.strength is Strength.STRONG:
                return RETIRE
        return self._rest(record, pick, outcome)

    @property
    def _tells_of_limit(self) -> bool:
        """Whether a block may be the limit's as far as is known; else it has to last first."""
        return self.limit.depends or self.ladder.chance(worked=True, rung=0) <= PASSING

    @property
    def _missing(self) -> float:
        """Seconds for which a banned session is missing; at a gateway until another one is found."""
        outage = self.budget.outage
        if not self.context.gateway:
            return outage
        return min(outage, self.working.latency / self.fresh.chance)

    def _is_lifes_end(self, record: Record, outcome: Outcome) -> bool:
        """Learn whether a block came from another exit than the session had before."""
        if not self.context.gateway:
            return False
        self._learn_lifetime(record, outcome, record)
        born = record.session.born
        return self.lifetime.ends(record.passed - born, outcome.sent - born)

    def _learn_lifetime(self, record: Record, outcome: Outcome, blocked: Record | None) -> None:
        born = record.session.born
        explained = self.lifetime.learn(
            record.passed - born,
            outcome.sent - born,
            self.budget.pages,
            self.fresh.chance,
            blocked,
        )
        if explained:
            self._acquit(explained, outcome)

    def _is_subnets(self, record: Record, group: str, pick: Pick, outcome: Outcome) -> bool:
        """Learn whether a block is the subnet's; then it tells nothing of the session's limit."""
        shared, others = self.subnets.blocked(record, group, pick, outcome)
        self._acquit(others, outcome)
        return shared

    def _acquit(self, records: list[Record], outcome: Outcome) -> None:
        """Take back what the limit learnt from blocks that were a subnet's."""
        for record in records:
            if record.doubt is not None:
                if record.counted:
                    self.limit.cleared(record.doubt, outcome.now)
                self.budget.came_back(outcome.now, lasted=False)
                record.doubt = None

    def _rest(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        """Send a session to the ladder; where nothing works, to be tried again sooner."""
        if pick.how is How.PROBE and pick.rung >= record.rung:
            record.rung = min(record.rung + 1, RUNGS - 1)
            lasts = record.rung > QUICK_RUNG and outcome.verdict.is_block
            if lasts and record.doubt is not None and not record.counted:
                record.counted = True
                self.limit.blocked(record.doubt, outcome.now, outage=self._missing)
        self.working.leave(record)
        record.failed = outcome.now
        rest = min(self.ladder.rest(record.rung), LONGEST_REST)
        asked = outcome.verdict.retry_after
        if outcome.verdict.kind is Kind.THROTTLED:
            rest = max(rest, THROTTLED_REST if asked is None else asked)
        return Reaction(rest=rest)

    def amended(self, session: Session, outcome: Outcome) -> Reaction:
        record: Record = session.memo
        record.missed()
        self.working.leave(record)
        record.failed = outcome.now
        return Reaction(rest=self.ladder.rest(record.rung))

    def abandoned(self, lease: Lease) -> None:
        record: Record = lease.session.memo
        pick: Pick = lease.tag
        self._landed(pick)
        if pick.how is not WORKING:
            self.budget.earn(pick.price)  # it was not spent
            self.drought.untried()
            self._put_back(record)

    def paused(self, lease: Lease) -> None:
        record: Record = lease.session.memo
        self._landed(lease.tag)
        self._hops[lease.session.id] = lease.tag
        self._put_back(record)

    def _put_back(self, record: Record) -> None:
        if not record.working and record.session.ready and record.tried:
            self.ladder.add(record)

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
