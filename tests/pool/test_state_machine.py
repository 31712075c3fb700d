"""Whatever happens in whatever order, the pool's promises hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from scrapy_session_filter.loading import load
from scrapy_session_filter.policies import POLICIES
from scrapy_session_filter.session import Lease, Session, State
from scrapy_session_filter.verdict import OK, Verdict
from tests.pool.conftest import (
    BLOCKED,
    GATEWAY,
    LOCAL,
    PROXY_ERROR,
    SITE_ERROR,
    THROTTLED,
    Bench,
    proxies,
)

if TYPE_CHECKING:
    from scrapy_session_filter.proxies import ProxyEndpoint

VERDICTS = st.sampled_from([OK, OK, OK, BLOCKED, THROTTLED, PROXY_ERROR, SITE_ERROR, LOCAL])


class PoolMachine(RuleBasedStateMachine):
    """Leases, reports, time, new lists and restarts in any order."""

    @initialize(
        policy=st.sampled_from(sorted(POLICIES)),
        endpoints=st.sampled_from([[GATEWAY], proxies(1), proxies(3), [*proxies(2), GATEWAY]]),
        limits=st.fixed_dictionaries(
            {
                "max_uses": st.sampled_from([0, 0, 1, 3]),
                "concurrency": st.sampled_from([0, 1, 2]),
                "delay": st.sampled_from([0.0, 2.0]),
                "max_sessions": st.sampled_from([0, 2]),
                "max_age": st.sampled_from([0.0, 50.0]),
                "max_idle": st.sampled_from([0.0, 20.0]),
            }
        ),
    )
    def start(self, policy: str, endpoints: list[ProxyEndpoint], limits: dict[str, Any]) -> None:
        chosen = load(POLICIES[policy], setting="TEST", expected="a policy")
        self.bench = Bench(chosen, endpoints, **limits)
        self.limits = self.bench.pool.roster._limits
        self.open: list[Lease] = []
        self.retired: set[Session] = set()
        self.uses: dict[str, list[float]] = {}

    def take(self, lease: Lease, *, counts: bool = True) -> None:
        session = lease.session
        assert session.state is State.LIVE
        assert session not in self.retired
        if counts:
            times = self.uses.setdefault(session.id, [])
            if times and self.limits.delay:
                assert self.bench.now - times[-1] >= self.limits.delay
            times.append(self.bench.now)
            if self.limits.max_uses:
                assert len(times) <= self.limits.max_uses
            if self.limits.concurrency:
                assert session.in_flight <= max(self.limits.concurrency, self.hops(session) + 1)
        self.open.append(lease)

    def hops(self, session: Session) -> int:
        return sum(lease.session is session and lease.why == "redirect" for lease in self.open)

    @rule(attempt=st.integers(0, 3))
    def acquire(self, attempt: int) -> None:
        avoid = [lease.session.id for lease in self.open[:2]] if attempt else []
        got = self.bench.pool.try_acquire(attempt=attempt, avoid=avoid)
        if isinstance(got, Lease):
            assert got.session.id not in avoid
            self.take(got)
        else:
            assert got > 0

    @rule(data=st.data(), verdict=VERDICTS)
    def report(self, data: st.DataObject, verdict: Verdict) -> None:
        if self.open:
            self.bench.report(self.open.pop(data.draw(st.integers(0, len(self.open) - 1))), verdict)

    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        if self.open:
            lease = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            self.bench.pool.abandon(lease)
            self.bench.pool.abandon(lease)

    @rule(data=st.data())
    def redirect(self, data: st.DataObject) -> None:
        if self.open:
            old = self.open[data.draw(st.integers(0, len(self.open) - 1))]
            lease = self.bench.pool.resume(old.session.id)
            if lease is not None:
                self.take(lease, counts=False)

    @rule(data=st.data())
    def amend(self, data: st.DataObject) -> None:
        if self.bench.pool.sessions:
            ids = list(self.bench.pool.sessions)  # in order of birth: the ids themselves are random
            chosen = data.draw(st.integers(0, len(ids) - 1))
            self.bench.pool.amend(ids[chosen], BLOCKED)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.bench.now += seconds

    @rule(count=st.integers(1, 4))
    def relist(self, count: int) -> None:
        if self.bench.proxies.is_list:
            self.bench.pool.update_proxies(proxies(count))

    @invariant()
    def promises(self) -> None:
        if not hasattr(self, "bench"):
            return
        pool = self.bench.pool
        assert pool.in_flight == len(self.open)
        for session in pool.sessions.values():
            assert session.state is not State.RETIRED
            assert session.in_flight == sum(lease.session is session for lease in self.open)
        self.retired |= {
            lease.session for lease in self.open if lease.session.state is State.RETIRED
        }
        assert not self.retired & set(pool.sessions.values())
        bound = self.limits.max_sessions if pool.policy.bounded else 0
        assert not bound or len(pool.sessions) <= bound
        listed = [
            session.endpoint.key
            for session in pool.sessions.values()
            if session.endpoint is not None and not session.endpoint.per_session
        ]
        assert len(listed) == len(set(listed))
        resting = sum(session.state is State.RESTING for session in pool.sessions.values())
        assert pool.roster.resting == resting

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            for lease in self.open:
                self.bench.report(lease)
            assert self.bench.pool.in_flight == 0


PoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestPool = PoolMachine.TestCase
