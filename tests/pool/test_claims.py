"""A pool in a shared store: it uses what it has claimed, while the claim holds, and parts with it."""

from __future__ import annotations

import random

import pytest

from scrapy_session_filter.exceptions import SessionFilterSessionGone
from scrapy_session_filter.holdings import LATELY, Holdings, Share, take_share
from scrapy_session_filter.policies.simple import RandomPolicy
from scrapy_session_filter.proxies import SiteProxies
from scrapy_session_filter.session import State
from scrapy_session_filter.snapshot import REST, site_state, take_changes
from scrapy_session_filter.stores.memory import MemoryStore
from tests.pool.conftest import BLOCKED, Bench, proxies

LIST = proxies(4)
KEYS = [endpoint.key for endpoint in LIST]


class SharedBench(Bench):
    """A pool over a list of four proxies, none of them claimed yet."""

    def __init__(self) -> None:
        super().__init__(RandomPolicy, LIST)
        assert self.pool.proxies is not None
        shared = SiteProxies(LIST, self.health, self.rng, shared=True)
        self.proxies = self.pool.proxies = self.pool.roster._proxies = shared
        self.pool.ledger._proxies = shared
        self.holdings = Holdings(self.pool, random.Random(1))

    def gain(self, *keys: str, short: int = 0, rests: dict[str, object] | None = None) -> set[str]:
        """Claim proxies; returns what the pool has no use for."""
        state = {REST + key: value for key, value in (rests or {}).items()}
        share = Share(set(keys), [], state, short)
        return self.holdings.gain(share, self.now, 0.0)[1]

    def used(self) -> set[str]:
        return {session.exit for session in self.pool.sessions.values()}


@pytest.fixture
def bench() -> SharedBench:
    return SharedBench()


# -- what may be used


def test_nothing_is_used_that_is_not_claimed(bench: SharedBench) -> None:
    """Without a claim there is no session to be had; with one, on what was claimed."""
    assert bench.wait() > 0
    assert bench.gain(*KEYS[:2]) == set()
    for _ in range(20):
        bench.fetch()
    assert bench.used() == set(KEYS[:2])


def test_what_the_pool_cannot_use_is_told(bench: SharedBench) -> None:
    """A claimed proxy that is not in the list any more is to be given back."""
    assert bench.gain(KEYS[0], "gone:1") == {"gone:1"}


def test_a_claimed_proxy_that_rests_is_left_alone(bench: SharedBench) -> None:
    """What another process has learnt of a proxy holds for the next that claims it."""
    bench.gain(*KEYS[:2], rests={KEYS[0]: [1, bench.now + 50]})
    for _ in range(10):
        bench.fetch()
    assert bench.used() == {KEYS[1]}
    bench.now += 50
    for _ in range(10):
        bench.fetch()
    assert bench.used() == set(KEYS[:2])


def test_rests_are_saved_one_by_one(bench: SharedBench) -> None:
    """Processes merge what they know by key: each rest has its own, and goes with a success."""
    bench.gain(KEYS[0])
    bench.fetch(BLOCKED)
    take_changes(bench.pool, 0.0)
    saved = site_state(bench.pool, 0.0)
    assert saved[REST + KEYS[0]][0] == 1
    assert not any(name.startswith(REST) for name in site_state(bench.pool, 0.0))
    bench.now += 100
    bench.fetch()
    assert site_state(bench.pool, 0.0)[REST + KEYS[0]] is None


def test_a_proxy_of_a_new_list_is_not_used_unclaimed(bench: SharedBench) -> None:
    """A list that changes changes what can be claimed, not what is."""
    bench.gain(*KEYS)
    bench.pool.update_proxies(proxies(6)[2:])
    assert set(bench.proxies.claimed) == set(KEYS[2:])
    assert len(bench.proxies.unclaimed()) == 2
    for _ in range(20):
        bench.fetch()
    assert bench.used() == set(KEYS[2:])


# -- while the claim holds


def test_no_lease_after_the_claims_ran_out(bench: SharedBench) -> None:
    """Neither a new session, nor a pinned one, nor the next hop of a redirect; then all again."""
    bench.gain(*KEYS)
    session = bench.fetch().session
    bench.pool._tenure.until = bench.now
    assert bench.wait() == 1.0
    assert bench.pool.acquire_pinned(session.id) == 1.0
    assert bench.pool.pin_chance(session.id) == 1.0
    assert bench.pool.resume(session.id) is None
    assert bench.pool.next_chance() == 1.0
    bench.pool._tenure.until = bench.now + 60
    bench.pool.waiters.came()
    assert bench.pool.next_chance() == 0.0
    assert bench.pool.resume(session.id) is not None
    bench.lease()


# -- wishes


def test_a_pool_that_is_content_wishes_nothing(bench: SharedBench) -> None:
    """With the whole list in hand, or a free proxy and an equal part, nothing is asked for."""
    bench.gain(*KEYS)
    bench.fetch()
    assert bench.holdings.wishes(bench.now, renewing=True) is None
    partly = SharedBench()
    partly.gain(*KEYS[:3])
    partly.fetch()
    assert partly.holdings.wishes(partly.now, renewing=False) is None


@pytest.mark.parametrize("why", ["renewing", "short", "hungry", "list", "pin"])
def test_a_pool_wishes_for_more(bench: SharedBench, why: str) -> None:
    """It asks when the claims are renewed, below an equal part, with no proxy free, and so on."""
    bench.gain(*KEYS[: 1 if why == "hungry" else 3], short=why == "short")
    bench.fetch()
    bench.holdings.list_changed = why == "list"
    if why == "pin":
        bench.pool.away["elsewhere"] = bench.now
    wish = bench.holdings.wishes(bench.now, renewing=why == "renewing")
    assert wish == KEYS[1 if why == "hungry" else 3 :]


def test_a_site_that_is_not_crawled_wishes_nothing(bench: SharedBench) -> None:
    """Some seconds after the last request its pool leaves to others what it does not have."""
    bench.gain(KEYS[0], short=3)
    bench.fetch()
    bench.now += LATELY + 1
    assert bench.holdings.wishes(bench.now, renewing=True) is None


# -- giving back


def test_gives_back_what_is_not_in_use(bench: SharedBench) -> None:
    """What is drawn leaves the pool at once; nothing of it is retired."""
    bench.gain(*KEYS)
    for _ in range(20):
        bench.fetch()
    given = bench.holdings.surrender(2, bench.now)
    bench.holdings.lose(given)
    assert len(given) == 2
    assert bench.used() == bench.holdings.exits == set(KEYS) - set(given)
    assert len(bench.gone) == 2
    assert not bench.pool.roster.removed
    assert bench.counts["sessions/retired"] == 0
    for _ in range(20):
        bench.fetch()
    assert bench.used() == set(KEYS) - set(given)


def test_what_is_in_use_follows_later(bench: SharedBench) -> None:
    """It takes no new request, and goes when the last has ended; its answer still counts."""
    bench.gain(*KEYS)
    for _ in range(20):
        bench.fetch()
    leases = {lease.session.exit: lease for lease in (bench.lease() for _ in range(40))}
    assert set(leases) == set(KEYS)
    bench.holdings.surrender(4, bench.now)
    assert bench.wait() > 0
    for session in {lease.session for lease in leases.values()}:
        while session.in_flight > 1:
            session.in_flight -= 1
            bench.pool.in_flight -= 1
    assert bench.holdings.surrender(4, bench.now) == []
    bench.report(leases[KEYS[0]], BLOCKED)
    bench.report(leases[KEYS[1]])
    assert bench.proxies.rests(LIST[0]) == 1
    assert set(bench.holdings.surrender(4, bench.now)) == set(KEYS[:2])


def test_what_was_lost_takes_its_leases_along(bench: SharedBench) -> None:
    """A session that another process has ends its leases without harm, and never comes back here."""
    bench.gain(*KEYS[:1])
    bench.fetch()
    lease = bench.lease()
    bench.holdings.lose(set(KEYS[:1]))
    assert bench.wait() > 0
    with pytest.raises(SessionFilterSessionGone):
        bench.pool.acquire_pinned(lease.session.id)
    bench.report(lease, BLOCKED)
    assert (bench.pool.in_flight, bench.gone) == (0, [lease.session.id])
    assert lease.session.state is State.RETIRED
    assert not bench.pool.roster.removed
    assert not bench.pool.roster.changed
    bench.gain(*KEYS[:1])
    assert bench.lease().session is not lease.session


def test_a_share_is_claimed_with_what_is_known_of_it() -> None:
    """One call brings the exits, the sessions on them and the site's state."""
    store = MemoryStore()
    store.open()
    share = take_share(store, "shop.example", KEYS)
    assert (share.exits, share.rows, share.state, share.error) == (set(KEYS), [], None, None)
    store.close()
    assert take_share(store, "shop.example", KEYS).error is not None
