"""How long a gateway keeps a session's exit: what is learnt, and what is not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.arena import Run
from benchmarks.contender import Product
from benchmarks.worlds import Cfg
from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.adaptive.lifetime import AGAIN, TIMES, Lifetime
from scrapy_session_filter.policies.base import Decision, PolicyContext

from .conftest import new_session

if TYPE_CHECKING:
    import random

    from scrapy_session_filter.policies.adaptive.knowledge import Knowledge
    from scrapy_session_filter.policies.adaptive.record import Record

PAGES, NEW = 1000, 0.1  # pages so far, and the chance of a new session


def record() -> Record:
    made: Record = new_session().memo
    return made


def lives(lifetime: Lifetime, count: int, end: float, step: float = 4.0) -> list[Record]:
    """So many sessions pass until ``end`` seconds and are blocked then; return what that explains."""
    explained = []
    for _ in range(count):
        age = 0.0
        while age + step < end:
            explained += lifetime.learn(age, age + step, PAGES, NEW, None)
            age += step
        explained += lifetime.learn(age, age + step, PAGES, NEW, record())
    return explained


@pytest.mark.parametrize("time", TIMES)
def test_blocks_just_after_a_time_tell_of_it(time: float) -> None:
    """A handful of sessions that pass until then and fail just after it are enough."""
    lifetime = Lifetime()
    assert not lives(lifetime, 1, time)
    assert lifetime.seconds == math.inf
    explained = lives(lifetime, 7, time)
    assert lifetime.seconds == time
    assert len(explained) == 8
    assert lifetime.ends(time - 3.0, time + 1.0)
    assert not lifetime.ends(time - 3.0, time - 1.0)
    assert f"after {time:.0f} s" in lifetime.explain()


@pytest.mark.parametrize("end", [20.0, 100.0, 500.0])
def test_blocks_at_other_ages_tell_nothing(end: float) -> None:
    """Sessions that end at an age at which no gateway changes exits are not taken to be changed."""
    lifetime = Lifetime()
    assert not lives(lifetime, 50, end)
    assert lifetime.seconds == math.inf
    assert not lifetime.explain()


def test_a_change_between_good_exits_is_not_seen() -> None:
    """Where sessions pass after a time as before, they are kept."""
    lifetime = Lifetime()
    for _ in range(50):
        assert not lifetime.learn(58.0, 62.0, PAGES, NEW, None)
    assert lifetime.seconds == math.inf
    assert not lifetime.is_over(1e6)


def test_a_long_silence_tells_nothing() -> None:
    """Of a session that was last used before several of the times, nobody knows which it was."""
    lifetime = Lifetime()
    for _ in range(50):
        assert not lifetime.learn(10.0, 400.0, PAGES, NEW, record())
    assert lifetime.seconds == math.inf


def test_one_in_some_is_used_once_more() -> None:
    """Sessions that are over are replaced, all but a few; if these pass, nothing ends any more."""
    lifetime = Lifetime()
    lives(lifetime, 8, 60.0)
    assert not lifetime.is_over(60.0)
    assert [lifetime.is_over(61.0) for _ in range(2 * AGAIN)].count(False) == 2
    while lifetime.seconds == 60.0:
        assert not lifetime.learn(58.0, 62.0, PAGES, NEW, None)
    assert not lifetime.is_over(61.0)


def test_it_is_saved() -> None:
    """After a restart the time is known, and what does not fit is ignored."""
    lifetime, again = Lifetime(), Lifetime()
    lives(lifetime, 8, 300.0)
    again.load(json.loads(json.dumps(lifetime.dump())), PAGES, NEW)
    assert again.seconds == 300.0
    rows: list[object] = [None, [], [[1, "x"]] * len(TIMES), [[1, 2, 3]] * len(TIMES)]
    for state in (None, 1, {}, *({"after": row, "others": 1} for row in rows)):
        again.load(state, PAGES, NEW)
    assert again.seconds == 300.0


def crawled(sticky: float, seed: int) -> tuple[Knowledge, Product]:
    cfg = Cfg("sticky", pool="gateway", n=400, sticky=sticky, prebanned=0.8, pages=3000, C=16)
    run = Run(cfg, Product, seed)
    run.result()
    (pool,) = run.policy.pools.values()
    assert isinstance(pool.policy, AdaptivePolicy)
    return pool.policy._knowledge, run.policy


@pytest.mark.parametrize("seed", range(3))
def test_a_gateway_that_changes_exits(seed: int) -> None:
    """In a crawl through such a gateway the time is found, and no limit is made of its blocks."""
    known, _ = crawled(60.0, seed)
    assert known.lifetime.seconds == 60.0
    assert known.limit.cap == math.inf
    assert "another exit after 60 s" in known.explain(0.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_gateway_that_keeps_them(seed: int) -> None:
    """Where sessions keep their exits, they are kept."""
    known, product = crawled(math.inf, seed)
    assert known.lifetime.seconds == math.inf
    (pool,) = product.pools.values()
    assert any(product.now - session.born > TIMES[0] for session in pool.sessions.values())


def test_sessions_that_are_over_are_retired(rng: random.Random) -> None:
    """What the policy drops is retired as too old, and another session is chosen at once."""
    product = Product(Run(Cfg("drop", pool="gateway", pages=1), Product, 1).pool, rng)
    product.pick(0.0, 0, 0)
    (pool,) = product.pools.values()
    (first,) = pool.sessions.values()
    product.report(1.0, 0, 0, "ok", 1.0, product.tag)
    assert isinstance(pool.policy, AdaptivePolicy)
    lives(pool.policy.lifetime, 8, 60.0)
    counted: list[str] = []
    pool.roster._watcher = replace(pool.roster._watcher, count=counted.append)
    assert product.pick(61.0, 0, 1) >= 0
    assert first.id not in pool.sessions
    assert "sessions/retired/age" in counted
    assert Decision.drop(first).retire


def test_a_list_takes_no_lifetime_over(rng: random.Random) -> None:
    """Proxies of a list keep their exits: what the store holds of a gateway is not for them."""
    taught = AdaptivePolicy(PolicyContext(rng, gateway=True))
    taught.budget.pages = PAGES
    lives(taught.lifetime, 9, 300.0)
    state = json.loads(json.dumps(taught.dump()))
    for gateway in (True, False):
        policy = AdaptivePolicy(PolicyContext(rng, gateway=gateway))
        policy.load(state)
        assert (policy.lifetime.seconds < math.inf) is gateway
