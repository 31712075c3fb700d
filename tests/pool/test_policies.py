"""How each of the simple policies picks."""

from __future__ import annotations

from collections import Counter

import pytest

from scrapy_session_filter.policies import Ask, Decision, Policy
from scrapy_session_filter.policies.classic import ClassicPolicy
from scrapy_session_filter.policies.simple import (
    LeastUsedPolicy,
    RandomPolicy,
    RoundRobinPolicy,
    UntilBlockedPolicy,
)
from scrapy_session_filter.session import Session, State
from tests.pool.conftest import BLOCKED, GATEWAY, SITE_ERROR, Bench, proxies


@pytest.mark.parametrize("working", [0, 10, 50, 90, 100])
def test_classic_takes_a_working_session_with_chance_working_over_max(working: int) -> None:
    """The article's rule: n working sessions of 100 aspired to are picked n times of 100."""
    bench = Bench(ClassicPolicy, [GATEWAY])
    while len(bench.pool.sessions) < working:
        bench.fetch()
    picks: Counter[str] = Counter()
    for _ in range(4000):
        lease = bench.lease()
        picks[lease.why] += 1
        if lease.why == "new":
            bench.pool.roster.retire(lease.session, "test", bench.now)  # so that the number stays
        bench.pool.abandon(lease)
    assert picks["working"] / 4000 == pytest.approx(working / 100, abs=0.035)


def test_classic_picks_uniformly_among_working_sessions_only() -> None:
    """Each working session comes up equally often, one that never succeeded does not."""
    bench = Bench(ClassicPolicy, [GATEWAY], max_sessions=10)
    unproven = bench.lease().session
    while sum(session.proven for session in bench.pool.sessions.values()) < 10:
        bench.fetch()
    picks: Counter[Session] = Counter()
    for _ in range(5000):
        lease = bench.lease()
        picks[lease.session] += 1
        bench.pool.abandon(lease)
    assert unproven not in picks
    assert len(picks) == 10
    assert max(picks.values()) < 620
    assert min(picks.values()) > 380


def test_classic_success_stores_and_failure_deletes() -> None:
    """The first success makes a session a working one; a block takes it out."""
    bench = Bench(ClassicPolicy, proxies(1))
    session = bench.fetch().session
    assert bench.fetch().why == "working"
    bench.fetch(BLOCKED)
    assert session.state is State.RETIRED
    assert isinstance(bench.pool.policy, ClassicPolicy)
    assert not bench.pool.policy._working


def test_classic_takes_a_working_session_when_the_list_has_run_out() -> None:
    """With all proxies in sessions there is no new one to make, so a working one serves."""
    bench = Bench(ClassicPolicy, proxies(3))
    for _ in range(3):
        bench.fetch()
    assert {bench.fetch().why for _ in range(20)} == {"working"}


def test_an_unproven_session_is_used_before_another_is_made() -> None:
    """A site error proves nothing: the session gets its next chance before a new one is made."""
    bench = Bench(ClassicPolicy, [GATEWAY])
    first = bench.fetch(SITE_ERROR).session
    assert bench.lease().session is first
    assert bench.lease().session is not first


def test_random_fills_the_pool_then_picks_uniformly() -> None:
    """Ten sessions are made first; then each is picked about equally often."""
    bench = Bench(RandomPolicy, proxies(10))
    first = [bench.lease() for _ in range(10)]
    assert len({lease.session for lease in first}) == 10
    picks: Counter[Session] = Counter(bench.lease().session for _ in range(5000))
    assert min(picks.values()) > 380


def test_round_robin_takes_turns() -> None:
    """Three sessions are used in the same order again and again."""
    bench = Bench(RoundRobinPolicy, proxies(3))
    turns = [bench.fetch().session.id for _ in range(12)]
    assert len(set(turns[:3])) == 3
    assert turns[:3] * 4 == turns


def test_least_used_evens_out() -> None:
    """No session is ever two uses ahead of another, also after one was away."""
    bench = Bench(LeastUsedPolicy, proxies(4))
    for _ in range(40):
        bench.fetch()
    uses = [session.uses for session in bench.pool.sessions.values()]
    assert max(uses) - min(uses) <= 1
    away = next(iter(bench.pool.sessions.values()))
    bench.pool.roster.rest(away, 5.5, bench.now)
    for _ in range(20):
        bench.fetch()
    uses = [session.uses for session in bench.pool.sessions.values()]
    assert max(uses) - min(uses) <= 1


def test_until_blocked_stays_with_one() -> None:
    """One session serves until it is blocked, then the next does."""
    bench = Bench(UntilBlockedPolicy, proxies(3))
    first = {bench.fetch().session for _ in range(10)}
    assert len(first) == 1
    bench.fetch(BLOCKED)
    second = {bench.fetch().session for _ in range(10)}
    assert len(second) == 1
    assert first != second


def test_a_gateways_pool_is_filled_to_a_hundred() -> None:
    """Where sessions never run out and no bound is set, a hundred are made and then shared."""
    bench = Bench(RandomPolicy, [GATEWAY])
    for _ in range(500):
        bench.fetch()
    assert len(bench.pool.sessions) == 100


@pytest.mark.parametrize("policy", [RandomPolicy, RoundRobinPolicy, LeastUsedPolicy])
def test_a_session_that_fails_does_not_keep_a_pool_from_filling(policy: type[Policy]) -> None:
    """One tried again in vain does not stand for the next to be made, while any can be."""
    bench = Bench(policy, [GATEWAY], max_sessions=5, max_errors=1000)
    for _ in range(3):
        bench.fetch()
    failing = bench.fetch(SITE_ERROR).session
    assert bench.fetch(SITE_ERROR).session is failing
    assert failing.state is State.LIVE
    assert bench.fetch().session is not failing
    assert len({bench.fetch().session for _ in range(40)} - {failing}) == 4


def test_a_policy_of_ones_own_is_a_small_class() -> None:
    """All a policy has to have is a choice."""

    class Newest(Policy):
        def choose(self, ask: Ask) -> Decision:
            return Decision.new() if ask.can_create else Decision.hold(3.0)

    bench = Bench(Newest, proxies(1))
    bench.lease()
    assert bench.wait() == pytest.approx(3.0)


class Stubborn(Policy):
    """Offers the first session it ever heard of, whatever has become of it."""

    first: Session | None = None

    def ready(self, session: Session) -> None:
        self.first = self.first or session

    def choose(self, ask: Ask) -> Decision:
        return Decision.new() if self.first is None else Decision.use(self.first, "first")


def test_a_policy_that_insists_on_a_session_waits_for_it() -> None:
    """One that is busy, retired, or was tried for the page is not leased; nor is it asked for ever."""
    bench = Bench(Stubborn, proxies(3), concurrency=1)
    lease = bench.lease()
    assert bench.wait() > 0
    bench.report(lease)
    assert bench.wait(avoid={lease.session.id}) > 0
    assert bench.lease().session is lease.session
    bench.report(lease)
    bench.pool.roster.retire(lease.session, "test", bench.now)
    assert bench.wait() > 0
    assert bench.pool.in_flight == 1
