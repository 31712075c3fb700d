"""What a pool costs: time of pick and report by its size, memory per session, and what is left over.

``python -m benchmarks.pool_cost [--policy classic]``

Times are process CPU, the best of several rounds; the ratio between the sizes is what counts.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
import tracemalloc
from typing import TYPE_CHECKING

from scrapy_session_filter.identities import identity_source
from scrapy_session_filter.loading import load
from scrapy_session_filter.policies import POLICIES, PolicyContext
from scrapy_session_filter.pool import Limits, SessionPool
from scrapy_session_filter.proxies import EndpointHealth, SiteProxies, parse_proxy
from scrapy_session_filter.session import Lease
from scrapy_session_filter.snapshot import take_changes
from scrapy_session_filter.verdict import OK, Kind, Verdict

if TYPE_CHECKING:
    from scrapy_session_filter.policies import Policy

BLOCKED = Verdict(Kind.BLOCKED, "benchmark")
SIZES = (1_000, 100_000)


class Clock:
    """A clock that moves a little at each look, as in a busy crawl."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.0001
        return self.now


def make_pool(policy: type[Policy], most: int, clock: Clock) -> SessionPool:
    """Return a pool behind a gateway."""
    rng = random.Random(1)
    health = EndpointHealth()
    gateway = parse_proxy("http://user-{session}:password@127.0.0.1:8000", setting="BENCHMARK")
    proxies = SiteProxies([gateway], health, rng)
    identities = identity_source("fake-useragent")
    context = PolicyContext(rng, max_sessions=most, gateway=True)
    return SessionPool(
        "shop.example",
        policy=policy(context),
        proxies=proxies,
        endpoint_health=health,
        headers=lambda: identities.draw(rng),
        limits=Limits(max_age=86400.0),
        clock=clock,
        rng=rng,
    )


def fill(pool: SessionPool, count: int) -> None:
    """Make so many sessions, each with one success."""
    while len(pool.sessions) < count:
        session = pool.roster.create(pool.clock())  # whatever the policy would do
        assert session is not None
        lease = pool.acquire_pinned(session.id)
        assert isinstance(lease, Lease)
        pool.report(lease, OK, sent=lease.acquired, latency=0.1)


def cost(pool: SessionPool, rounds: int = 5, picks: int = 20_000) -> float:
    """Return microseconds of CPU per pick and report."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(picks):
            lease = pool.try_acquire()
            assert isinstance(lease, Lease)
            pool.report(lease, OK, sent=lease.acquired, latency=0.1)
        best = min(best, (time.process_time() - start) / picks)
    return 1e6 * best


def memory(policy: type[Policy], count: int = 100_000) -> float:
    """Return bytes per idle session, all indexes included."""
    pool = make_pool(policy, count, Clock())
    gc.collect()
    tracemalloc.start()
    fill(pool, count)
    take_changes(pool, 0.0)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used / count


def left_over(policy: type[Policy], count: int = 100_000) -> tuple[int, float]:
    """Return sessions and bytes left after so many sessions have come and were blocked."""
    pool = make_pool(policy, 100, Clock())
    gc.collect()
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        session = pool.roster.create(pool.clock())
        assert session is not None
        lease = pool.acquire_pinned(session.id)
        assert isinstance(lease, Lease)
        pool.report(lease, BLOCKED, sent=lease.acquired, latency=0.1)
        pool.roster.retire(session, "benchmark", pool.clock())
        if not number % 1000:
            take_changes(pool, 0.0)
    take_changes(pool, 0.0)
    gc.collect()
    left = tracemalloc.get_traced_memory()[0] - base
    tracemalloc.stop()
    return len(pool.sessions), left


def main() -> None:
    """Print a line for each question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="classic", choices=sorted(POLICIES))
    name = parser.parse_args().policy
    policy = load(POLICIES[name], setting="--policy", expected="a policy")
    costs = {}
    for size in SIZES:
        pool = make_pool(policy, size, Clock())
        fill(pool, size)
        take_changes(pool, 0.0)
        costs[size] = cost(pool)
        print(f"{name}: pick + report with {size:>7} sessions: {costs[size]:.1f} us")
    print(
        f"{name}: {SIZES[1]} against {SIZES[0]} sessions: {costs[SIZES[1]] / costs[SIZES[0]]:.2f}"
    )
    print(f"{name}: {memory(policy):.0f} bytes per idle session")
    sessions, left = left_over(policy)
    print(f"{name}: after 100000 sessions have come and gone: {sessions} left, {left / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
