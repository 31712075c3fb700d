"""Inits at the pool: who is prepared when, and what follows from how it went."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from scrapy_session_filter import snapshot
from scrapy_session_filter.inits import INIT_FAILED, LONGEST_PAUSE, SiteInits
from scrapy_session_filter.loading import load
from scrapy_session_filter.policies import POLICIES
from scrapy_session_filter.policies.classic import ClassicPolicy
from scrapy_session_filter.policies.simple import RandomPolicy, UntilBlockedPolicy
from scrapy_session_filter.pool import SessionPool
from scrapy_session_filter.session import Lease, State
from scrapy_session_filter.verdict import OK, Kind, Strength, Verdict
from tests.pool.conftest import BLOCKED, GATEWAY, PROXY_ERROR, SITE_ERROR, Bench, proxies

if TYPE_CHECKING:
    from scrapy_session_filter.policies import Policy

FAILED = Verdict(Kind.BLOCKED, INIT_FAILED, Strength.WEAK)


class InitBench(Bench):
    """A pool whose inits the test ends itself."""

    def __init__(
        self,
        policy: type[Policy] = RandomPolicy,
        endpoints: Any = None,
        *,
        at_once: int = 4,
        attempts: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(policy, endpoints, **options)
        self.begun: list[Lease] = []
        bench = self.pool
        self.pool = SessionPool(
            bench.site,
            policy=bench.policy,
            proxies=bench.proxies,
            endpoint_health=self.health,
            headers=lambda: {"User-Agent": "Test"},
            limits=bench.roster._limits,
            clock=lambda: self.now,
            rng=self.rng,
            watcher=bench._watcher,
            dry_run=bench._dry_run,
            inits=partial(SiteInits, run=self._run, at_once=at_once, attempts=attempts),
        )

    def _run(self, pool: SessionPool, lease: Lease) -> None:
        self.begun.append(lease)

    @property
    def inits(self) -> SiteInits:
        assert self.pool.inits is not None
        return self.pool.inits

    def prepare(self, verdict: Verdict | None = None) -> Lease:
        """Have a session prepared for a request that then has to wait; return the init's lease."""
        self.wait()
        lease = self.begun.pop()
        self.now += 1.0
        self.pool.end_init(lease, verdict)
        return lease


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_no_policy_gets_a_session_before_its_init(policy: str) -> None:
    """A new session is prepared first, and the request that caused it gets that one."""
    bench = InitBench(load(POLICIES[policy], setting="TEST", expected="a policy"), max_sessions=3)
    bench.wait()
    [init] = bench.begun
    assert not init.session.ready
    bench.wait()
    assert bench.begun == [init]  # whoever asks again has no second one prepared
    bench.now += 3
    bench.pool.end_init(init, None)
    lease = bench.lease()
    assert lease.session is init.session
    assert lease.session.inited == bench.now
    assert lease.session.uses == 1
    assert bench.counts["picks/init"] == 1


def test_as_many_are_prepared_as_requests_wait() -> None:
    """One for each request that is out or waits, at most so many at once."""
    bench = InitBench(ClassicPolicy, at_once=4)
    bench.wait()
    assert len(bench.begun) == 1
    bench.pool.waiters.count = 2
    for _ in range(5):
        bench.wait()
    assert len(bench.begun) == 3
    bench.pool.waiters.count = 9
    for _ in range(5):
        bench.wait()
    assert len(bench.begun) == 4


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("endpoints", [[GATEWAY], proxies(9)])
def test_who_waits_for_an_init_does_not_spin(endpoints: Any, policy: str) -> None:
    """While as many are prepared as may be, neither the queue nor a waiter asks again at once."""
    chosen = load(POLICIES[policy], setting="TEST", expected="a policy")
    bench = InitBench(chosen, endpoints, at_once=1)
    bench.wait()
    assert bench.pool.next_chance() == bench.wait() == 1.0
    bench.now += 0.5
    assert bench.pool.next_chance() == 0.5
    bench.pool.end_init(bench.begun.pop(), None)
    assert bench.pool.next_chance() == 0.0


def test_ready_sessions_serve_while_another_is_prepared() -> None:
    """A policy that wants a new session gets a ready one meanwhile."""
    bench = InitBench(RandomPolicy, max_sessions=2)
    first = bench.prepare().session
    assert bench.lease().session is first
    lease = bench.lease()
    assert lease.session is first
    assert len(bench.begun) == 1
    bench.pool.end_init(bench.begun.pop(), None)
    assert {bench.lease().session.id for _ in range(40)} == set(bench.pool.sessions)


def test_until_blocked_prepares_one_after_the_other() -> None:
    """A policy that stays with one session has no other prepared while that one is ready."""
    bench = InitBench(UntilBlockedPolicy)
    bench.pool.waiters.count = 9
    for _ in range(5):
        bench.wait()
    assert len(bench.begun) == 1
    bench.pool.end_init(bench.begun.pop(), None)
    assert len({bench.lease().session for _ in range(9)}) == 1
    assert not bench.begun
    avoid = list(bench.pool.sessions)
    bench.wait(avoid=avoid)  # but for a page that has failed on it
    assert len(bench.begun) == 1


@pytest.mark.parametrize(
    ("verdict", "reason"), [(BLOCKED, "blocked"), (PROXY_ERROR, "proxy"), (SITE_ERROR, "init")]
)
def test_a_session_pays_for_its_init(verdict: Verdict, reason: str) -> None:
    """An unproven session leaves by the verdict on its init, and counts as one failure."""
    bench = InitBench(RandomPolicy, proxies(3))
    lease = bench.prepare(verdict)
    assert lease.session.state is State.RETIRED
    assert bench.counts[f"sessions/retired/{reason}"] == 1
    assert bench.pool.in_flight == lease.session.in_flight == 0
    assert bench.inits.failed == 1
    assert set(bench.gone) == {lease.session.id}


def test_the_bound_is_exact() -> None:
    """No more inits begin than may fail in a row; a success counts from the start again."""
    bench = InitBench(ClassicPolicy, attempts=3, at_once=9)
    bench.pool.waiters.count = 9
    for _ in range(9):
        bench.wait()
    assert len(bench.begun) == 3
    bench.pool.end_init(bench.begun.pop(), None)
    bench.pool.end_init(bench.begun.pop(), BLOCKED)
    bench.pool.end_init(bench.begun.pop(), BLOCKED)
    assert bench.inits.failed == 2
    assert not bench.inits.exhausted
    bench.lease()
    for _ in range(9):
        bench.pool.try_acquire()
    assert len(bench.begun) == 1
    bench.pool.end_init(bench.begun.pop(), BLOCKED)
    assert bench.inits.exhausted
    bench.pool.try_acquire()
    assert not bench.begun


@pytest.mark.parametrize(
    ("verdict", "slows"), [(FAILED, True), (SITE_ERROR, True), (BLOCKED, False)]
)
def test_failures_slow_the_inits_down(verdict: Verdict, slows: bool) -> None:
    """After a failure that another proxy would not mend the next init waits, longer each time."""
    bench = InitBench(ClassicPolicy)
    waits = []
    for _ in range(10):
        failed = bench.now
        while not bench.begun:
            bench.now += 0.125
            bench.pool.try_acquire()
        waits.append(bench.now - failed)
        bench.pool.end_init(bench.begun.pop(), verdict)
    if slows:
        assert waits[1:6] == [0.5, 1.0, 2.0, 4.0, 8.0]
        assert waits[-1] == LONGEST_PAUSE
    else:
        assert waits == [0.125] * 10


def test_a_logged_out_session_is_barred_once() -> None:
    """A session found logged out serves nobody until its renewal; late answers change nothing."""
    bench = InitBench(RandomPolicy, proxies(1))
    session = bench.prepare().session
    leases = [bench.lease() for _ in range(3)]
    bench.report(bench.lease())
    bench.now += 1
    bench.pool.log_out(leases.pop())
    assert session.inited is None
    assert not session.ready
    bench.wait()
    [renewal] = bench.begun
    bench.pool.log_out(leases.pop())
    bench.now += 1
    bench.pool.end_init(bench.begun.pop(), None)
    bench.pool.log_out(leases.pop())  # sent before the renewal
    assert session.ready
    assert bench.lease().session is renewal.session is session
    assert session.blocks == session.errors == 0


def test_a_failed_renewal_rests_the_session() -> None:
    """A session that has worked is not lost with a site error in its renewal, but tried again."""
    bench = InitBench(RandomPolicy, proxies(1))
    session = bench.prepare().session
    bench.report(lease := bench.lease())
    bench.pool.log_out(bench.lease())
    bench.wait()
    bench.pool.end_init(bench.begun.pop(), SITE_ERROR)
    assert session.state is State.RESTING
    assert lease.session is session
    bench.wait()
    assert not bench.begun
    bench.now += 2
    bench.wait()
    bench.pool.end_init(bench.begun.pop(), None)
    assert bench.lease().session is session


def test_a_pin_has_its_session_prepared() -> None:
    """A request pinned to a session that is logged out begins its renewal."""
    bench = InitBench(RandomPolicy, proxies(2))
    session = bench.prepare().session
    bench.report(bench.lease())
    bench.pool.log_out(bench.lease())
    bench.begun.clear()
    bench.inits.running.clear()
    assert bench.pool.pin_chance(session.id) == 0.0
    assert isinstance(bench.pool.acquire_pinned(session.id), float)
    assert [lease.session for lease in bench.begun] == [session]
    assert bench.pool.pin_chance(session.id) > 0
    bench.pool.end_init(bench.begun.pop(), None)
    assert isinstance(bench.pool.acquire_pinned(session.id), Lease)


def test_what_is_prepared_is_saved() -> None:
    """Saved rows say whether a session was prepared; one that was not is prepared before its use."""
    bench = InitBench(RandomPolicy, proxies(2), max_sessions=2)
    done = bench.prepare().session
    bench.report(bench.lease())
    bench.report(bench.lease())
    begun = bench.begun[-1].session
    rows, _ = snapshot.take_changes(bench.pool, 500.0)
    assert {row["id"]: row["init"] for row in rows} == {done.id: bench.now + 500.0, begun.id: None}
    again = InitBench(RandomPolicy, proxies(2), max_sessions=2)
    snapshot.restore(again.pool, rows, None, now=again.now, wall_offset=501.0)
    assert [s.id for s in again.pool.sessions.values() if s.ready] == [done.id]
    assert {again.lease().session.id for _ in range(9)} == {done.id}
    assert again.begun[0].session.id == begun.id
    older = {key: value for key, value in rows[0].items() if key != "init"}
    plain = Bench(RandomPolicy, proxies(2))
    snapshot.restore(plain.pool, [older], None, now=plain.now, wall_offset=500.0)
    assert plain.pool.roster.ready == 1


def test_dry_run_prepares_but_never_withholds() -> None:
    """In DRY_RUN a failed init costs nothing, and the session serves."""
    bench = InitBench(RandomPolicy, proxies(1), dry_run=True)
    session = bench.prepare(BLOCKED).session
    assert bench.lease().session is session
    assert bench.counts["sessions/retired"] == 0


def test_an_init_that_is_broken_off_says_nothing() -> None:
    """Its session waits for its init again, and no failure counts."""
    bench = InitBench(RandomPolicy, proxies(1))
    bench.wait()
    lease = bench.begun.pop()
    bench.inits.drop(lease)
    bench.inits.drop(lease)
    assert bench.inits.failed == bench.pool.in_flight == 0
    bench.wait()
    assert bench.begun.pop().session is lease.session


def test_a_closed_pool_begins_none() -> None:
    """Once nobody is to wait any more no init begins."""
    bench = InitBench(RandomPolicy)
    bench.pool.waiters.close()
    bench.wait()
    assert not bench.begun


def test_without_a_hook_nothing_is_barred() -> None:
    """A pool without inits hands out new sessions at once, whatever was saved."""
    bench = Bench(RandomPolicy)
    lease = bench.fetch(OK)
    assert lease.session.inited is None
    assert not lease.session.barred
