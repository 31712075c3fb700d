"""What answers teach: each goes to the ideas it says something about, and costs the session its due.

A success speaks of the session, of how hard it was used and of its rest; a block may be the limit's, the
subnet's, a change of exits, or the session's own; where the site is down it is nobody's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_session_filter.policies.adaptive.choosing import NEWNESS
from scrapy_session_filter.policies.adaptive.ladder import RUNGS
from scrapy_session_filter.policies.adaptive.record import WORKING, How, Pick, Record
from scrapy_session_filter.policies.base import (
    KEEP,
    RETIRE,
    THROTTLED_REST,
    PolicyContext,
    Reaction,
)
from scrapy_session_filter.verdict import KIND_OK, Kind, Strength

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_session_filter.policies.adaptive.knowledge import Knowledge
    from scrapy_session_filter.session import Lease, Outcome, Session

LONGEST_REST = 10.0
"""Seconds after which the pool may offer a blocked session again; the rest is up to the ladder."""
GIVE_UP_RUNG = 8
"""From where on (512 s) a session at a gateway goes: new ones never run out there."""
QUICK_RUNG = 1
"""A block that is gone by this rung did not last: it was not the limit's."""
PASSING = 0.5
"""Chance that a block is gone after its first rest, from where on only those that last are counted,
unless blocks are known to depend on intensity."""


class Learner:
    """Enters answers into what is known of one site.

    ``common_cost``: what a verdict costs under every policy's rules, for answers that are no block.
    """

    def __init__(
        self,
        context: PolicyContext,
        known: Knowledge,
        common_cost: Callable[[Session, Outcome], Reaction],
    ) -> None:
        self._context = context
        self._known = known
        self._common_cost = common_cost
        self._working = known.working
        self._ladder = known.ladder
        self._limit = known.limit
        self._lifetime = known.lifetime
        self._fresh = known.fresh
        self._subnets = known.subnets
        self._budget = known.budget
        self._drought = known.drought

    def report(self, lease: Lease, outcome: Outcome) -> Reaction:
        """Learn from an answer and return what it costs the session."""
        record: Record = lease.session.memo
        pick: Pick = lease.tag
        if pick.scout or pick.trial or pick.subnet_scout:
            self._known.landed(pick)
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
            self._known.vendor.blocked(outcome.verdict.vendor)
        if kind is Kind.PROXY_ERROR:
            return self._proxy_failed(record, pick, outcome)
        return self._was_blocked(record, pick, outcome)

    def _learn_odds(self, record: Record, pick: Pick, ok: bool) -> None:
        if pick.how is WORKING:
            if ok or record.working:
                self._working.learn(ok)
        elif pick.how is How.FRESH:
            self._fresh.learn(record.group, ok)
            self._ladder.newcomers = self._fresh.chance
        else:
            self._ladder.learn(pick.worked, pick.rung, ok)

    def _nobodys_fault(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        reaction = self._common_cost(record.session, outcome) if not outcome.site_down else KEEP
        if pick.how is not WORKING and not record.working:
            never = pick.how is How.PROBE and not pick.worked
            if outcome.verdict.kind is not Kind.SITE_ERROR and not never:
                # the odds must fall, else a pool that is banned as a whole looks like a dead site
                # for ever: what fails as predicted is no outage (those that never worked are
                # predicted no better than new ones, and would be given up for good)
                self._learn_odds(record, pick, ok=False)
            self._known.put_back(record)
            return Reaction(
                rest=max(reaction.rest, min(self._ladder.rest(record.rung), LONGEST_REST))
            )
        return reaction

    def _succeeded(self, record: Record, pick: Pick, outcome: Outcome) -> None:
        now = outcome.now
        record.passed_in(outcome.latency)
        self._working.passed_in(outcome.latency)
        self._learn_odds(record, pick, ok=True)
        self._budget.pages += 1
        self._drought.passed(now, self._fresh.chance)
        if self._subnets.known and record.group is not None:
            self._acquit(self._subnets.passed(record.group, pick, outcome), outcome)
        if pick.how is WORKING:
            self._limit.passed(pick.levels, now, outcome.sent)
            if pick.trial:
                self._limit.trial_passed(pick.levels, now)
            if outcome.stale:
                return  # sent before its last block: it says nothing about now
            if self._context.gateway:
                self._learn_lifetime(record, outcome, None)
        else:
            self._budget.earn(NEWNESS * pick.price)
            self._budget.stints += 1
        if record.doubt is not None:
            lasted = max(pick.rung, record.rung) > QUICK_RUNG
            self._budget.came_back(now, lasted)
            if not lasted and record.counted:
                self._limit.cleared(record.doubt, now)
            record.doubt = None
        record.worked = True
        record.passed = now
        record.rung = 0
        if record.place < 0:
            self._ladder.remove(record)
            self._working.enter(record)

    def _proxy_failed(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        if pick.how is WORKING and (not record.working or record.good >= record.bad):
            return KEEP
        if pick.how is not WORKING and record.worked:
            # that says nothing of the ban: the next request shows (resting on costs .007)
            self._working.enter(record)
            return KEEP
        if self._context.gateway and not record.worked:
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
                    self._budget.went_out(outcome.now)
                record.doubt = pick.levels
            if pick.trial and told is None:
                record.counted = True
                self._limit.trial_blocked(pick.levels, outcome.now)
                self._budget.lose(self._known.pages_of_a_ban)
            elif told is not None or self._tells_of_limit:
                record.counted = told is None
                self._limit.blocked(
                    pick.levels, outcome.now, retry_after=told, outage=self._missing
                )
            else:
                record.counted = False
        elif self._context.gateway and (not record.worked or record.rung >= GIVE_UP_RUNG):
            # a bare status proves little: once more, and where another session gets through
            repeated = record.session.blocks > 1 and outcome.others_pass
            if repeated or verdict.strength is Strength.STRONG:
                return RETIRE
        return self._rest(record, pick, outcome)

    @property
    def _tells_of_limit(self) -> bool:
        """Whether a block may be the limit's as far as is known; else it has to last first."""
        return self._limit.depends or self._ladder.chance(worked=True, rung=0) <= PASSING

    @property
    def _missing(self) -> float:
        """Seconds for which a banned session is missing; at a gateway until another one is found."""
        outage = self._budget.outage
        if not self._context.gateway:
            return outage
        return min(outage, self._working.latency / self._fresh.chance)

    def _is_lifes_end(self, record: Record, outcome: Outcome) -> bool:
        """Learn whether a block came from another exit than the session had before."""
        if not self._context.gateway:
            return False
        self._learn_lifetime(record, outcome, record)
        born = record.session.born
        return self._lifetime.ends(record.passed - born, outcome.sent - born)

    def _learn_lifetime(self, record: Record, outcome: Outcome, blocked: Record | None) -> None:
        born = record.session.born
        explained = self._lifetime.learn(
            record.passed - born,
            outcome.sent - born,
            self._budget.pages,
            self._fresh.chance,
            blocked,
        )
        if explained:
            self._acquit(explained, outcome)

    def _is_subnets(self, record: Record, group: str, pick: Pick, outcome: Outcome) -> bool:
        """Learn whether a block is the subnet's; then it tells nothing of the session's limit."""
        shared, others = self._subnets.blocked(record, group, pick, outcome)
        self._acquit(others, outcome)
        return shared

    def _acquit(self, records: list[Record], outcome: Outcome) -> None:
        """Take back what the limit learnt from blocks that were a subnet's."""
        for record in records:
            if record.doubt is not None:
                if record.counted:
                    self._limit.cleared(record.doubt, outcome.now)
                self._budget.came_back(outcome.now, lasted=False)
                record.doubt = None

    def _rest(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        """Send a session to the ladder; where nothing works, to be tried again sooner."""
        if pick.how is How.PROBE and pick.rung >= record.rung:
            record.rung = min(record.rung + 1, RUNGS - 1)
            lasts = record.rung > QUICK_RUNG and outcome.verdict.is_block
            if lasts and record.doubt is not None and not record.counted:
                record.counted = True
                self._limit.blocked(record.doubt, outcome.now, outage=self._missing)
        self._working.leave(record)
        record.failed = outcome.now
        rest = min(self._ladder.rest(record.rung), LONGEST_REST)
        asked = outcome.verdict.retry_after
        if outcome.verdict.kind is Kind.THROTTLED:
            rest = max(rest, THROTTLED_REST if asked is None else asked)
        return Reaction(rest=rest)

    def amended(self, session: Session, outcome: Outcome) -> Reaction:
        """Take back a success that was none and return what that costs the session."""
        record: Record = session.memo
        record.missed()
        self._working.leave(record)
        record.failed = outcome.now
        return Reaction(rest=self._ladder.rest(record.rung))
