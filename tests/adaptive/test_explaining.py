"""What is told of a site that nobody crawls at the moment."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from benchmarks.arena import Pool
from benchmarks.contender import Product
from benchmarks.worlds import Cfg, World
from scrapy_session_filter.explaining import explain, explain_saved
from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.adaptive.intensity import WINDOWS
from scrapy_session_filter.session import Lease
from scrapy_session_filter.snapshot import site_state
from scrapy_session_filter.verdict import OK, Kind, Verdict
from tests.pool.conftest import GATEWAY, Bench, proxies

if TYPE_CHECKING:
    from scrapy_session_filter.proxies import ProxyEndpoint


def test_a_saved_site_is_explained_as_a_running_one() -> None:
    """Sessions that work, those that rest and how long, the limit and how sure it is."""
    product = Product(Pool(World(Cfg(n=3, per_subnet=3), 1)), random.Random(1))
    throttled = Verdict(Kind.THROTTLED, "status-429", retry_after=60.0)
    for i in range(40):
        product.pick(i * 1.0, 0, 0)
        verdict = throttled if i == 39 else OK
        assert isinstance(product.tag, Lease)
        product.pools[0].report(product.tag, verdict, sent=product.now, latency=0.5)
    pool = product.pools[0]
    rows = json.loads(json.dumps(product._rows(pool)))
    state = json.loads(json.dumps(site_state(pool, 0.0)))
    told = explain_saved("site0", rows, state, now=product.now)
    assert told == explain(pool)
    assert "1 rest (60 s to 60 s more)" in told
    assert "2 of 3 sessions work" in told
    assert "requests per" in told


def test_a_site_of_which_nothing_is_known_is_explained_too() -> None:
    """No state, another policy's, or a damaged one: what the rows say is told all the same."""
    for state in (None, {}, {"policy": "ClassicPolicy"}, {"learnt": 3, "health": []}):
        told = explain_saved("shop.example", [{"id": "damaged"}], state, now=0.0)
        assert told == "shop.example: 0 of 0 sessions work, 0 rest, 0 requests are in flight."


def test_a_site_that_was_down_is_said_to_have_been() -> None:
    """The store knows no more than that."""
    told = explain_saved("shop.example", [], {"health": {"down": True}}, now=0.0)
    assert "looked down when this was saved" in told


@pytest.mark.parametrize("endpoints", [[GATEWAY], proxies(40)])
def test_a_limit_that_is_not_kept_is_said_to_be_not_kept(endpoints: list[ProxyEndpoint]) -> None:
    """By the running pool and by what is saved of it alike."""
    bench = Bench(AdaptivePolicy, endpoints)
    policy = bench.pool.policy
    assert isinstance(policy, AdaptivePolicy)
    for i in range(40):
        policy.fresh.learn(None, i % 10 > 0)
    limit = policy.limit
    limit.cap, limit.edge = 5.0, 6.0
    for _ in range(400):
        limit.table.passed((8.0,) * len(WINDOWS))
    limit.table.fit(limit.scale)
    told = explain(bench.pool)
    assert "The limit is not kept" in told
    state = json.loads(json.dumps(site_state(bench.pool, 0.0)))
    assert explain_saved("shop.example", [], state, now=bench.now) == told
