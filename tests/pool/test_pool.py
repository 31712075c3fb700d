"""What holds in a pool whatever policy is in charge."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from scrapy_session_filter.exceptions import SessionFilterSessionGone
from scrapy_session_filter.ledger import QUIET
from scrapy_session_filter.loading import load
from scrapy_session_filter.policies import POLICIES
from scrapy_session_filter.policies.simple import (
    LeastUsedPolicy,
    RandomPolicy,
    RoundRobinPolicy,
    UntilBlockedPolicy,
)
from scrapy_session_filter.proxies import parse_proxy
from scrapy_session_filter.session import Lease, Session, State
from scrapy_session_filter.snapshot import restore
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


def test_max_uses_is_exact_with_requests_in_flight() -> None:
    """MAX_USES=1 and five requests at once make five sessions, each gone after its answer."""
    bench = Bench(RandomPolicy, max_uses=1)
    leases = [bench.lease() for _ in range(5)]
    assert len({lease.session.id for lease in leases}) == 5
    for lease in leases:
        bench.report(lease)
    assert not bench.pool.sessions
    assert bench.counts["sessions/retired/uses"] == 5
    alone = Bench(RandomPolicy, proxies(1), max_uses=1)
    alone.lease()
    alone.wait()


def test_concurrency_is_exact() -> None:
    """A session at its CONCURRENCY takes no further request until one of its own ends."""
    bench = Bench(RandomPolicy, proxies(2), concurrency=2)
    leases = [bench.lease() for _ in range(4)]
    assert sorted(lease.session.in_flight for lease in leases) == [2, 2, 2, 2]
    bench.wait()
    bench.report(leases[0])
    assert bench.lease().session is leases[0].session


def test_delay_is_kept_between_two_requests_of_a_session() -> None:
    """A session is ready again DELAY seconds after its last request was given out, no sooner."""
    bench = Bench(RandomPolicy, proxies(1), delay=3.0)
    bench.report(bench.lease())
    assert bench.wait() == pytest.approx(1.0)  # what the policy says; the pool asks again then
    bench.now += 2.9
    bench.wait()
    bench.now += 0.2
    bench.lease()


def test_a_retired_session_never_comes_back() -> None:
    """A success that arrives after the block changes nothing: retirement is terminal."""
    bench = Bench(RandomPolicy, proxies(1))
    bench.fetch()
    first, second = bench.lease(), bench.lease()
    assert first.session is second.session
    bench.report(first, BLOCKED)
    assert first.session.state is State.RETIRED
    bench.report(second, OK)
    assert first.session.state is State.RETIRED
    assert not bench.pool.sessions
    assert bench.pool.in_flight == 0


def test_a_burst_of_blocks_counts_once() -> None:
    """Eight blocks of requests sent before the first of them was known are one block."""
    bench = Bench(RandomPolicy, proxies(1), max_errors=3)
    bench.fetch()
    burst = [bench.lease() for _ in range(8)]
    bench.now += 1
    for lease in burst:
        bench.report(lease, BLOCKED)
    session = burst[0].session
    assert (session.blocks, session.state) == (1, State.LIVE)
    bench.fetch(BLOCKED)
    bench.fetch(BLOCKED)
    assert session.state is State.RETIRED
    assert bench.counts["sessions/retired/blocked"] == 1


def test_a_lease_ends_once() -> None:
    """Reporting again, or abandoning after a report, changes no counter."""
    bench = Bench()
    lease = bench.lease()
    bench.report(lease)
    bench.report(lease, BLOCKED)
    bench.pool.abandon(lease)
    assert (bench.pool.in_flight, lease.session.in_flight, lease.session.blocks) == (0, 0, 0)


def test_gone_is_told_only_after_the_last_answer() -> None:
    """Cookies of a retired session are dropped when nothing of it is in flight any more."""
    bench = Bench(RandomPolicy, proxies(1))
    bench.fetch()
    first, second = bench.lease(), bench.lease()
    bench.report(first, BLOCKED)
    assert not bench.gone
    bench.pool.abandon(second)
    assert bench.gone == [first.session.id]


def test_a_throttled_session_rests_as_long_as_the_site_says() -> None:
    """THROTTLED rests the session for Retry-After, and retires nothing."""
    bench = Bench(RandomPolicy, proxies(1))
    session = bench.fetch(THROTTLED).session
    assert session.state is State.RESTING
    assert bench.wait() <= 40.0
    bench.now += 39.0
    bench.wait()
    bench.now += 1.1
    assert bench.lease().session is session
    assert bench.urgent == 1


@pytest.mark.parametrize("gone", [10.0, 100.0])
def test_a_rest_ends_while_nobody_crawls_too(gone: float) -> None:
    """A session that is loaded after its rest was over is ready at once; before, when it is over."""
    bench = Bench(RandomPolicy, proxies(1))
    row = bench.fetch(THROTTLED).session.to_row(0.0)
    later = Bench(RandomPolicy, proxies(1))
    later.now = bench.now + gone
    restore(later.pool, [row], None, now=later.now, wall_offset=0.0)
    later.now = max(later.now, bench.now + 41.0)
    assert later.lease().session.id == row["id"]


@pytest.mark.parametrize("verdict", [SITE_ERROR, LOCAL])
def test_site_and_local_trouble_blame_nobody(verdict: Verdict) -> None:
    """A single site error, and any local trouble, leave the session as it was."""
    bench = Bench(RandomPolicy, proxies(1))
    bench.fetch()
    session = bench.fetch(verdict).session
    assert session.state is State.LIVE
    assert bench.lease().session is session


def test_a_site_error_again_and_again_where_others_pass_rests_the_session() -> None:
    """The one session that gets errors while others get pages is at fault itself."""
    bench = Bench(RoundRobinPolicy, proxies(2))
    bad = bench.fetch().session
    for _ in range(8):
        lease = bench.lease()
        bench.now += 1
        bench.report(lease, SITE_ERROR if lease.session is bad else OK)
    assert bad.state is State.RESTING


def test_a_proxy_error_rests_the_endpoint_on_every_site() -> None:
    """Two pools share what is known of a proxy; a block on one site is no matter of the other."""
    here, there = Bench(RandomPolicy, proxies(1)), Bench(RandomPolicy, proxies(1))
    there.pool.ledger._endpoint_health = there.pool.roster._endpoint_health = here.health
    there.pool.roster._proxies._health = here.health  # type: ignore[union-attr]
    here.fetch(PROXY_ERROR)
    assert not here.pool.sessions
    there.wait()
    here.now = there.now = here.now + 11.0
    here.lease()
    there.lease()


def test_proven_endpoint_tolerates_single_time_outs() -> None:
    """One time-out in between does not rest a proxy that works."""
    bench = Bench(RandomPolicy, proxies(1))
    for _ in range(5):
        bench.fetch()
        bench.fetch(PROXY_ERROR)
    assert bench.pool.sessions


def test_one_dead_exit_does_not_rest_a_gateway() -> None:
    """Behind a gateway a failing session goes, and the next is another exit at once."""
    bench = Bench(RandomPolicy, [GATEWAY])
    first = bench.fetch(PROXY_ERROR).session
    assert first.state is State.RETIRED
    assert bench.lease().session is not first


def test_a_dead_gateway_rests() -> None:
    """Where exit after exit fails, the gateway itself is at fault and gets a pause."""
    bench = Bench(RandomPolicy, [GATEWAY])
    for _ in range(8):
        bench.fetch(PROXY_ERROR)
    assert bench.wait() > 0
    bench.now += 10.1
    bench.lease()


def test_one_session_per_proxy_and_site() -> None:
    """A list of three proxies has at most three sessions, on three different proxies."""
    bench = Bench(RandomPolicy, proxies(3))
    leases = [bench.lease() for _ in range(9)]
    sessions = {lease.session for lease in leases}
    assert len(sessions) == len({session.endpoint for session in sessions}) == 3


def test_a_blocked_proxy_rests_on_the_site_longer_each_time() -> None:
    """The proxy of a blocked session rests a minute, then two; by age it is free at once."""
    bench = Bench(RandomPolicy, proxies(1))
    rests = []
    for _ in range(3):
        bench.fetch(BLOCKED)
        start = bench.now
        while isinstance(got := bench.pool.try_acquire(), float):
            bench.now += max(got, 1.0)
        bench.pool.abandon(got)
        rests.append(bench.now - start)
    assert 45 <= rests[0] <= 76
    assert 90 <= rests[1] <= 151
    assert 180 <= rests[2] <= 301


def test_age_and_idleness_retire() -> None:
    """A session older than MAX_AGE, or unused for MAX_IDLE, is never leased again."""
    bench = Bench(RandomPolicy, proxies(1), max_age=100.0, max_idle=30.0)
    first = bench.fetch().session
    bench.now += 31.0
    second = bench.fetch().session
    assert second is not first
    assert bench.counts["sessions/retired/idle"] == 1
    for _ in range(5):
        bench.now += 20.0
        bench.fetch()
    assert second.state is State.RETIRED
    assert bench.counts["sessions/retired/age"] == 1


def test_max_sessions_bounds_the_pool() -> None:
    """No more unretired sessions than MAX_SESSIONS, for all policies but the article's."""
    for policy in (RandomPolicy, RoundRobinPolicy, LeastUsedPolicy, UntilBlockedPolicy):
        bench = Bench(policy, [GATEWAY], max_sessions=4, concurrency=1)
        for _ in range(4):
            bench.lease()
        bench.wait()
        assert len(bench.pool.sessions) == 4


def test_avoided_sessions_are_not_leased() -> None:
    """A page never gets a session it has failed on, even if there is no other."""
    bench = Bench(RandomPolicy, proxies(2))
    tried = [bench.fetch().session.id]
    tried.append(bench.fetch(avoid=tried).session.id)
    assert len(set(tried)) == 2
    bench.wait(avoid=tried)


def test_another_proxy_is_preferred_on_a_retry() -> None:
    """A new session for a retry is made on a proxy the page has not failed on, where there is one."""
    for seed in range(20):
        bench = Bench(UntilBlockedPolicy, proxies(2), seed=seed, max_uses=1, max_errors=9)
        first = bench.lease()
        second = bench.lease(avoid=[first.session.id])
        assert first.session.endpoint != second.session.endpoint


def test_a_pin_gets_its_session_or_waits_or_is_told() -> None:
    """Resting: the wait; retired or unknown: SessionFilterSessionGone."""
    bench = Bench(RandomPolicy, proxies(2))
    session = bench.fetch().session
    assert isinstance(bench.pool.acquire_pinned(session.id), Lease)
    bench.pool.roster.rest(session, 10.0, bench.now)
    assert bench.pool.acquire_pinned(session.id) == pytest.approx(10.0)
    bench.pool.roster.retire(session, "test", bench.now)
    with pytest.raises(SessionFilterSessionGone, match=session.id):
        bench.pool.acquire_pinned(session.id)
    with pytest.raises(SessionFilterSessionGone):
        bench.pool.acquire_pinned("nosuchsession")


def test_a_redirect_goes_on_with_the_same_use() -> None:
    """The next hop neither counts as a use nor waits for the session's delay."""
    bench = Bench(RandomPolicy, proxies(1), max_uses=1, delay=60.0)
    lease = bench.lease()
    hop = bench.pool.resume(lease.session.id)
    assert hop is not None
    assert hop.session.uses == 1
    bench.pool.abandon(lease)
    bench.report(hop)
    assert not bench.pool.sessions
    assert bench.pool.resume(lease.session.id) is None


def test_amending_turns_a_success_into_a_block() -> None:
    """report_block() costs what a block costs, and nothing for a retired session."""
    bench = Bench(RandomPolicy, proxies(1))
    session = bench.fetch().session
    assert bench.pool.amend(session.id, BLOCKED)
    assert session.state is State.RETIRED
    assert not bench.pool.amend(session.id, BLOCKED)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("first", [OK, BLOCKED, PROXY_ERROR])
def test_dry_run_costs_nothing(policy: str, first: Verdict) -> None:
    """In DRY_RUN nothing rests, nothing is retired, and no request is held back."""
    chosen = load(POLICIES[policy], setting="TEST", expected="a policy")
    bench = Bench(chosen, proxies(1), dry_run=True)
    for verdict in (first, *(BLOCKED, THROTTLED, PROXY_ERROR, SITE_ERROR, BLOCKED) * 20):
        lease = bench.fetch(verdict)
    assert bench.pool.amend(lease.session.id, BLOCKED)
    bench.fetch()
    (session,) = bench.pool.sessions.values()
    assert (session.state, session.uses) == (State.LIVE, 102)


def test_hunger_begins_with_the_wish() -> None:
    """A site that nobody asked for has not been without a page; one that is slow has."""
    bench = Bench()
    bench.fetch(SITE_ERROR)
    assert bench.pool.ledger.hungry_since == 1000.0
    bench.now += QUIET + 1.0
    slow = bench.lease()
    assert bench.pool.ledger.hungry_since == bench.now
    began = bench.now
    bench.now += QUIET + 1.0
    bench.fetch(SITE_ERROR)
    assert bench.pool.ledger.hungry_since == began
    bench.report(slow)
    assert bench.pool.ledger.hungry_since is None


@pytest.mark.parametrize("older", [0, 1])
def test_sessions_that_are_too_old_are_said_to_be(older: int) -> None:
    """Whatever their order: those that other processes gave come later, and may be older."""
    bench = Bench(RandomPolicy, proxies(2), max_age=1000)
    born = [bench.now - 100.0, bench.now - 100.0]
    born[older] -= 500.0
    for number, endpoint in enumerate(proxies(2)):
        bench.proxies.adopt(endpoint.key)
        session = Session(f"{number:012d}", "site", endpoint, {}, born[number], bench.now, oks=1)
        bench.pool.roster.join(session, bench.now)
    bench.now += 600.0
    for _ in range(20):
        bench.fetch()
        bench.now -= 1.0
    assert bench.counts["sessions/retired/age"] == bench.counts["sessions/retired"] == 1


@pytest.mark.parametrize("unfit", ["avoid", "pin"])
def test_a_session_goes_to_the_first_who_can_use_it(unfit: str) -> None:
    """Those ahead who cannot do not keep it from the next in line."""
    bench = Bench(RandomPolicy, proxies(2), concurrency=1)
    one, other = bench.lease(), bench.lease()

    async def crawl() -> bool:
        ask: dict[str, Any] = {"avoid": [one.session.id]}
        if unfit == "pin":
            ask = {"pin": other.session.id}
        ahead = [asyncio.ensure_future(bench.pool.acquire(timeout=9.0, **ask)) for _ in range(3)]
        await asyncio.sleep(0)
        fit = asyncio.ensure_future(bench.pool.acquire(timeout=9.0))
        await asyncio.sleep(0)
        assert bench.pool.waiters.count == 4
        bench.report(one)
        for _ in range(9):
            await asyncio.sleep(0)
        served = fit.done()
        bench.pool.waiters.close()
        await asyncio.gather(*ahead, fit)
        return served

    assert asyncio.run(crawl())


def test_an_outage_of_the_site_costs_few_sessions() -> None:
    """Where all fail at once that worked before, the pool stops blaming and sends probes only."""
    bench = Bench(RandomPolicy, proxies(50))
    for _ in range(300):
        bench.fetch()
    sent = 0
    end = bench.now + 90.0
    while bench.now < end:
        got = bench.pool.try_acquire()
        if isinstance(got, float):
            bench.now += got
        else:
            sent += 1
            bench.now += 0.1
            bench.report(got, BLOCKED)
    assert len(bench.pool.sessions) >= 44
    assert sent < 60
    while isinstance(got := bench.pool.try_acquire(), float):
        bench.now += got
    back = bench.now
    bench.report(got, OK)
    while bench.pool.health.down:
        while isinstance(got := bench.pool.try_acquire(), float):
            bench.now += got
        bench.report(got, OK)
    assert bench.now - back < 2.0, "the first that gets through is followed by others at once"


def test_a_wholly_banned_list_is_no_outage() -> None:
    """Proxies that never worked are all tried, and none of it looks like the site's fault."""
    bench = Bench(RandomPolicy, proxies(60))
    for _ in range(60):
        bench.fetch(BLOCKED)
    assert not bench.pool.health.down
    assert bench.counts["sessions/retired/blocked"] == 60


def test_a_list_that_changes_retires_sessions_of_lost_proxies() -> None:
    """Removed proxies take their sessions with them; new ones are used; the rest goes on."""
    three = proxies(3)
    bench = Bench(RandomPolicy, three[:2])
    sessions = {bench.fetch().session for _ in range(2)}
    bench.pool.update_proxies(three[1:])
    kept = [session for session in sessions if session.state is State.LIVE]
    assert [session.endpoint for session in kept] == [three[1]]
    assert bench.fetch().session.endpoint == three[2]


def test_a_new_password_reaches_the_sessions() -> None:
    """They have it at once, and what the old one has cost the proxy everywhere is forgotten."""
    old, new = (parse_proxy(f"http://u:{word}@10.0.0.1:80", setting="TEST") for word in "ab")
    bench = Bench(RandomPolicy, [old], max_errors=9)
    session = bench.lease().session
    bench.health.failed(old, bench.now)
    assert bench.wait() > 0
    bench.pool.update_proxies([new])
    assert session.endpoint is new
    assert not bench.health.faults
    assert bench.health.changed == {new.key}
    assert bench.lease().session is session


def test_next_chance_tells_the_queue_when() -> None:
    """Zero while a lease may be had; after a refusal the time that it named; zero after a change."""
    bench = Bench(RandomPolicy, proxies(1), concurrency=1)
    assert bench.pool.next_chance() == 0.0
    lease = bench.lease()
    bench.wait()
    assert bench.pool.next_chance() > 0
    bench.report(lease)
    assert bench.pool.next_chance() == 0.0


def test_no_two_leases_have_one_id() -> None:
    """A queued request may carry the id of a lease from before its pool was loaded again."""
    bench = Bench(RandomPolicy, proxies(1))
    first = bench.fetch()
    later = Bench(RandomPolicy, proxies(1))
    later.now = bench.now
    restore(later.pool, [first.session.to_row(0.0)], None, now=later.now, wall_offset=0.0)
    second = later.lease()
    assert second.session.id == first.session.id
    assert second.id != first.id
