"""Whatever happens in whatever order, no session serves a request before its init."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scrapy_session_filter.loading import load
from scrapy_session_filter.policies import POLICIES
from scrapy_session_filter.session import Lease, State
from scrapy_session_filter.verdict import OK, Verdict
from tests.pool.conftest import BLOCKED, GATEWAY, LOCAL, PROXY_ERROR, SITE_ERROR, THROTTLED, proxies
from tests.pool.test_inits import FAILED, InitBench

BAD = [BLOCKED, FAILED, THROTTLED, PROXY_ERROR, SITE_ERROR, LOCAL]


class InitMachine(RuleBasedStateMachine):
    """Leases, inits, reports, log-outs and time in any order."""

    @initialize(
        policy=st.sampled_from(sorted(POLICIES)),
        endpoints=st.sampled_from([[GATEWAY], proxies(1), proxies(3)]),
        at_once=st.sampled_from([1, 3]),
        attempts=st.sampled_from([0, 0, 4]),
        limits=st.fixed_dictionaries(
            {
                "max_uses": st.sampled_from([0, 3]),
                "concurrency": st.sampled_from([0, 2]),
                "max_sessions": st.sampled_from([0, 2]),
                "max_age": st.sampled_from([0.0, 50.0]),
            }
        ),
    )
    def start(
        self, policy: str, endpoints: Any, at_once: int, attempts: int, limits: dict[str, Any]
    ) -> None:
        chosen = load(POLICIES[policy], setting="TEST", expected="a policy")
        self.bench = InitBench(chosen, endpoints, at_once=at_once, attempts=attempts, **limits)
        self.at_once, self.attempts = at_once, attempts
        self.open: list[Lease] = []

    @rule(pinned=st.booleans(), waiting=st.integers(0, 4))
    def acquire(self, pinned: bool, waiting: int) -> None:
        pool = self.bench.pool
        pool.waiters.count = waiting
        known = [s.id for s in pool.sessions.values() if not pool.roster.is_spent(s)]
        now = self.bench.now
        known = [i for i in known if not pool.roster.expiry(pool.sessions[i], now)]
        if pinned and known and not any(s.born + 50 < now for s in pool.sessions.values()):
            got = pool.acquire_pinned(known[-1])
        else:
            got = pool.try_acquire()
        if isinstance(got, Lease):
            assert got.session.inited is not None
            assert not got.session.barred
            assert got.session not in self.bench.inits.running
            self.open.append(got)
        else:
            assert got > 0

    @rule(verdict=st.sampled_from([None, None, *BAD]), which=st.integers(0, 9))
    def end_init(self, verdict: Verdict | None, which: int) -> None:
        if self.bench.begun:
            lease = self.bench.begun.pop(which % len(self.bench.begun))
            self.bench.pool.end_init(lease, verdict)
            self.bench.pool.end_init(lease, BLOCKED)  # only the first end counts
            assert lease.ended

    @rule(which=st.integers(0, 9))
    def drop_init(self, which: int) -> None:
        if self.bench.begun:
            self.bench.inits.drop(self.bench.begun.pop(which % len(self.bench.begun)))

    @rule(verdict=st.sampled_from([OK, OK, *BAD]), which=st.integers(0, 9))
    def report(self, verdict: Verdict, which: int) -> None:
        if self.open:
            self.bench.report(self.open.pop(which % len(self.open)), verdict)

    @rule(which=st.integers(0, 9))
    def log_out(self, which: int) -> None:
        if self.open:
            self.bench.pool.log_out(self.open.pop(which % len(self.open)))

    @rule(seconds=st.sampled_from([0.1, 1.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.bench.now += seconds
        self.bench.pool.next_chance()

    @rule(which=st.integers(0, 9))
    def retire(self, which: int) -> None:
        known = list(self.bench.pool.sessions)
        if known:
            pool = self.bench.pool
            pool.roster.retire(pool.sessions[known[which % len(known)]], "test", self.bench.now)

    @invariant()
    def inits_are_bounded_and_apart(self) -> None:
        if not hasattr(self, "bench"):
            return
        pool, inits = self.bench.pool, self.bench.inits
        assert len(inits.running) <= self.at_once
        assert inits.running == {lease.session for lease in self.bench.begun}
        if self.attempts:
            assert inits.failed + len(inits.running) <= self.attempts + len(inits.running)
            assert inits.failed <= self.attempts
        assert inits.running.isdisjoint(inits.waiting)
        for session in inits.waiting:
            assert session.barred
            assert session.state is State.LIVE
            assert session.id in pool.sessions
        for session in pool.sessions.values():
            assert session.barred == (session.inited is None)
            assert not (session.barred and session.ready)
        assert pool.roster.ready == sum(s.ready for s in pool.sessions.values())
        assert pool.in_flight == len(self.open) + len(self.bench.begun)


TestInits = InitMachine.TestCase
TestInits.settings = settings(max_examples=60, stateful_step_count=40)
