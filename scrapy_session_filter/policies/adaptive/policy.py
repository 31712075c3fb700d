"""The adaptive policy: learn what a site allows, and come close to one who knew.

Each idea has its module: `limit` (how hard a session may be used), `ladder` (how long it rests),
`budget` (what exploring may cost), `working` (the choice among those that work) and `fresh` (new
sessions). Whether the site itself is down, the pool decides for all policies.
"""

# ruff: noqa: D102 - the hooks are documented by `Policy`

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.budget import COSTLIEST, CROWDING, Budget
from scrapy_session_filter.policies.adaptive.fresh import Fresh
from scrapy_session_filter.policies.adaptive.intensity import Meter, bin_of
from scrapy_session_filter.policies.adaptive.ladder import RUNGS, Ladder
from scrapy_session_filter.policies.adaptive.limit import Limit
from scrapy_session_filter.policies.adaptive.record import How, Pick, Record
from scrapy_session_filter.policies.adaptive.working import LOOK, Choice, WorkingSet
from scrapy_session_filter.policies.base import (
    KEEP,
    RETIRE,
    THROTTLED_REST,
    Decision,
    Policy,
    PolicyContext,
    Reaction,
)
from scrapy_session_filter.verdict import Kind, Strength

if TYPE_CHECKING:
    from scrapy_session_filter.policies.base import Ask
    from scrapy_session_filter.session import Lease, Outcome, Session

LONGEST_WAIT, SHORTEST_WAIT = 1.0, 0.05
"""Seconds; a waiter looks again within them."""
RISKED = 0.3
"""Going beyond the cap is right where its risk costs less than this share of the wait it saves."""
NEWNESS = 0.95
"""Value of a new session of certain success, relative to a known one: it has to connect anew, and
has no cookies. Without it, a site that blocks nobody would get a new visitor with each request."""
PATIENCE = 4.0
"""Where nothing works, all resting sessions are tried once while so many pages would be fetched."""
GIVE_UP_RUNG = 8
"""From where on (512 s) a session at a gateway goes: new ones never run out there."""
QUICK_RUNG = 1
"""A block that is gone by this rung did not last: it was not the limit's."""


class AdaptivePolicy(Policy):
    """Learns the site's limit, paces itself, and explores as far as that pays."""

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self.working = WorkingSet(context.rng)
        self.ladder = Ladder()
        self.limit = Limit()
        self.fresh = Fresh(context.rng)
        self.budget = Budget(context.concurrency)
        self._sessions = 0
        self._asked = 0

    # -- membership ------------------------------------------------------------------------------

    def added(self, session: Session) -> None:
        record = Record(session)
        record.load(session.learnt, RUNGS)
        session.memo = record
        self._sessions += 1

    def removed(self, session: Session) -> None:
        record: Record = session.memo
        self.working.leave(record)
        self.ladder.remove(record)
        self._sessions -= 1

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
        scarce = not ask.can_create
        sessions = len(self.working)
        few = scarce and sessions < 2 * self.context.concurrency
        scouts = self.limit.scouts_left(sessions, scarce)
        trials = self.budget.is_rich and self.limit.tries(ask.now)
        choice = self.working.choose(
            ask, self.limit, self.fresh, scouts=scouts, trials=trials, few=few
        )
        return (
            self._explore(ask, choice)
            or self._exploit(choice)
            or self._go_beyond(ask, choice)
            or self._hold(choice)
        )

    def _explore(self, ask: Ask, choice: Choice) -> Decision | None:
        """Try a new or a rested session where it is paid for, promises more, or nothing else works.

        A page that was blocked before never explores while a working session is available.
        """
        self._asked += 1
        if ask.attempt and choice.record is not None:
            return None
        budget, sessions = self.budget, len(self.working)
        fresh = self.fresh.chance if ask.can_create else 0.0
        # the ladder is looked at when it may matter, and now and then so that sessions climb it
        matters = choice.record is None or budget.tokens >= 1 or fresh > choice.value
        if not matters and self._asked & 3:
            return None
        probe, chance = self.ladder.best(ask.now, ask.avoid)
        best = max(fresh, chance)
        if best <= 0 or (sessions and not budget.pays(best)):
            return None
        promising = choice.record is not None and NEWNESS * best > choice.value
        if not (budget.tokens >= 1 or promising or not sessions):
            return None
        budget.tokens -= 1.0
        if probe is None or fresh >= chance:
            group = self.fresh.choose(self.context.free_groups())
            return Decision.new("new", group, Pick(How.FRESH))
        self.ladder.remove(probe)
        return Decision.use(probe.session, "probe", Pick(How.PROBE, probe.rung, probe.worked))

    def _exploit(self, choice: Choice) -> Decision | None:
        """Use a working session; what scarcity costs on this pick is what exploring may cost."""
        if choice.record is None:
            return None
        session = choice.record.session
        replacing = min(1.0 / self.fresh.chance, COSTLIEST)
        self.budget.earn(choice.risk * replacing + CROWDING * session.in_flight)
        pick = Pick(How.WORKING)
        pick.trial = choice.trial
        return Decision.use(session, "trial" if choice.trial else "working", pick)

    def _go_beyond(self, ask: Ask, choice: Choice) -> Decision | None:
        """Use a session over the cap where waiting would cost more than the ban it risks."""
        if choice.over is None:
            return None
        limit = self.limit
        choice.wait *= min(1.0, LOOK / len(self.working))  # the others are under the cap earlier
        cost = self._pages_of_a_ban
        if ask.can_create:
            cost = min(cost, 1.0 / self.fresh.chance)
        wait = max(SHORTEST_WAIT, choice.wait) / (self.working.latency or 1.0)
        if limit.table.hazard[bin_of(choice.level)] * (1.0 + cost) >= RISKED * wait:
            return None
        self.budget.earn(1.0)
        return Decision.use(choice.over.session, "risked", Pick(How.WORKING))

    @property
    def _pages_of_a_ban(self) -> float:
        """Return how many pages a session cannot fetch while it is banned."""
        return self.budget.outage * self.limit.cap / self.limit.window

    def _hold(self, choice: Choice) -> Decision:
        wait = min(choice.wait, LONGEST_WAIT)
        self.budget.earn(wait / (self.working.latency or 1.0))
        return Decision.hold(max(SHORTEST_WAIT, wait))

    def acquired(self, lease: Lease) -> None:
        record: Record = lease.session.memo
        if not isinstance(lease.tag, Pick):  # pinned, or the next hop of a redirect
            how = How.WORKING if record.working else How.PROBE if record.tried else How.FRESH
            lease.tag = Pick(how, record.rung, record.worked)
        pick = lease.tag
        self.ladder.remove(record)
        if record.meter is None:
            record.meter = Meter(lease.acquired)
        pick.levels = record.meter.use(lease.acquired)
        if pick.trial:
            self.limit.trying += 1
        elif pick.how is How.WORKING and pick.levels[self.limit.scale] > self.limit.safe:
            pick.scout = True
            self.limit.scouting += 1

    # -- learning --------------------------------------------------------------------------------

    def predict(self, lease: Lease) -> float:
        record: Record = lease.session.memo
        pick: Pick = lease.tag
        if pick.how is How.FRESH:
            return self.fresh.chance
        if pick.how is How.PROBE:
            return self.ladder.chance(pick.worked, pick.rung)
        return record.chance(self.working.mean) if record.working else 0.0

    def report(self, lease: Lease, outcome: Outcome) -> Reaction:
        record: Record = lease.session.memo
        pick: Pick = lease.tag
        self._landed(pick)
        kind = outcome.verdict.kind
        if kind is Kind.SITE_ERROR or (outcome.site_down and kind is not Kind.OK):
            return self._nobodys_fault(record, pick, outcome)
        ok = kind is Kind.OK
        self._learn_odds(record, pick, ok)
        record.count(ok)
        if ok:
            self._succeeded(record, pick, outcome)
            return KEEP
        if kind is Kind.PROXY_ERROR:
            return self._proxy_failed(record, pick, outcome)
        return self._was_blocked(record, pick, outcome)

    def _landed(self, pick: Pick) -> None:
        if pick.scout:
            pick.scout = False
            self.limit.scouting -= 1
        elif pick.trial:
            self.limit.trying -= 1

    def _learn_odds(self, record: Record, pick: Pick, ok: bool) -> None:
        if pick.how is How.FRESH:
            self.fresh.learn(record.group, ok)
        elif pick.how is How.PROBE:
            self.ladder.learn(pick.worked, pick.rung, ok)
        elif ok or record.working:
            self.working.learn(ok)

    def _nobodys_fault(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        reaction = self.cost(record.session, outcome) if not outcome.site_down else KEEP
        if pick.how is not How.WORKING and not record.working:
            if outcome.verdict.kind is not Kind.SITE_ERROR:
                # the odds must fall, else a pool that is banned as a whole looks like a dead site
                # for ever: what fails as predicted is no outage
                self._learn_odds(record, pick, ok=False)
            self._put_back(record)
            return Reaction(rest=max(reaction.rest, self.ladder.rest(record.rung)))
        return reaction

    def _succeeded(self, record: Record, pick: Pick, outcome: Outcome) -> None:
        record.timed(outcome.latency)
        self.working.timed(outcome.latency)
        self.budget.pages += 1
        if pick.how is How.WORKING:
            self.limit.passed(pick.levels, outcome.now)
            if pick.trial:
                self.limit.trial_passed(pick.levels, outcome.now)
        else:
            self.budget.earn(NEWNESS)
            self.budget.stints += 1
        if pick.how is How.WORKING and outcome.stale:
            return  # sent before its last block: it says nothing about now
        if record.doubt is not None:
            lasted = pick.rung > QUICK_RUNG
            self.budget.came_back(outcome.now, lasted)
            if not lasted:
                self.limit.cleared(record.doubt, outcome.now)
            record.doubt = None
        if record.group in self.fresh.resting and record.group is not None:
            self.fresh.passed(record.group)
        record.worked = True
        record.rung = 0
        self.ladder.remove(record)
        self.working.enter(record)

    def _proxy_failed(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        if pick.how is How.WORKING and (not record.working or record.good >= record.bad):
            return KEEP
        if pick.how is not How.WORKING and record.worked:
            self.working.enter(record)
            return KEEP
        if self.context.gateway and not record.worked:
            return RETIRE
        return self._rest(record, pick, outcome)

    def _was_blocked(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        verdict = outcome.verdict
        if pick.how is How.WORKING:
            if not record.working:
                return KEEP  # one more of the same burst
            told = None
            if verdict.kind is Kind.THROTTLED:
                told = verdict.retry_after or THROTTLED_REST
            else:
                record.doubt = pick.levels
                self.budget.went_out(outcome.now)
            if pick.trial and told is None:
                self.limit.trial_blocked(pick.levels, outcome.now)
                self.budget.lose(self._pages_of_a_ban)
            else:
                self.limit.blocked(pick.levels, outcome.now, retry_after=told)
            if record.group is not None:
                self.fresh.blocked(record.group, record.session.id, outcome.now)
        elif self.context.gateway and (not record.worked or record.rung >= GIVE_UP_RUNG):
            # a bare status proves little: once more, and where another session gets through
            repeated = record.session.blocks > 1 and outcome.others_pass
            if repeated or verdict.strength is Strength.STRONG:
                return RETIRE
        return self._rest(record, pick, outcome)

    def _rest(self, record: Record, pick: Pick, outcome: Outcome) -> Reaction:
        """Send a session to the ladder; where nothing works, to be tried again sooner."""
        if pick.how is How.PROBE:
            record.rung = min(record.rung + 1, RUNGS - 1)
        self.working.leave(record)
        record.failed = outcome.now
        rest = self.ladder.rest(record.rung)
        if not len(self.working) and not self.limit.depends:
            turn = self._sessions * (self.working.latency or 1.0) / self.context.concurrency
            rest = min(rest, max(self.ladder.rest(0), PATIENCE * turn))
        asked = outcome.verdict.retry_after
        if outcome.verdict.kind is Kind.THROTTLED:
            rest = max(rest, THROTTLED_REST if asked is None else asked)
        return Reaction(rest=rest)

    def amended(self, session: Session, outcome: Outcome) -> Reaction:
        record: Record = session.memo
        record.count(False)
        self.working.leave(record)
        record.failed = outcome.now
        return Reaction(rest=self.ladder.rest(record.rung))

    def abandoned(self, lease: Lease) -> None:
        record: Record = lease.session.memo
        pick: Pick = lease.tag
        self._landed(pick)
        if pick.how is not How.WORKING:
            self.budget.earn(1.0)  # it was not spent
            if not record.working:
                self._put_back(record)

    def _put_back(self, record: Record) -> None:
        if record.session.ready and record.tried:
            self.ladder.add(record)

    # -- state -----------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        return {
            "limit": self.limit.dump(),
            "ladder": self.ladder.dump(),
            "budget": self.budget.dump(),
            "fresh": self.fresh.dump(),
            "mean": round(self.working.mean, 4),
            "latency": round(self.working.latency, 4),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.limit.load(state.get("limit"))
        self.ladder.load(state.get("ladder"))
        self.budget.load(state.get("budget"))
        self.fresh.load(state.get("fresh"))
        mean, latency = state.get("mean"), state.get("latency")
        if isinstance(mean, (int, float)) and 0 <= mean <= 1:
            self.working.mean = float(mean)
        if isinstance(latency, (int, float)) and 0 <= latency < 1e6:
            self.working.latency = float(latency)

    def dump_session(self, session: Session) -> Any:
        record: Record = session.memo
        return record.dump()

    def explain(self, now: float) -> str:
        told = [
            (
                f"{len(self.working)} sessions take requests; {100 * self.working.mean:.0f} % "
                f"succeed, in {self.working.latency:.2f} s. A new session works with a chance of "
                f"{100 * self.fresh.chance:.0f} %."
            ),
            self.limit.explain(),
            self.ladder.explain(),
        ]
        resting = sum(subnet.until > now for subnet in self.fresh.resting.values())
        if resting:
            told.append(f"{resting} subnets rest: their sessions were blocked together.")
        return " ".join(filter(None, told))
