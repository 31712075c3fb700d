"""What sites behind the same anti-bot vendor take over from each other."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.arena import simulate
from benchmarks.contender import VERDICTS, Product
from benchmarks.worlds import Cfg
from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.adaptive.intensity import WINDOWS
from scrapy_session_filter.policies.adaptive.vendors import ANSWERS, ASK_AGAIN, HEARD
from scrapy_session_filter.policies.base import Decision, PolicyContext
from scrapy_session_filter.pools import SitePools
from scrapy_session_filter.proxies import parse_proxy
from scrapy_session_filter.session import Lease, Limits
from scrapy_session_filter.tenure import Tenure
from scrapy_session_filter.watcher import Watcher

from .conftest import BLOCKED, Driver

if TYPE_CHECKING:
    from benchmarks.arena import Pool
    from scrapy_session_filter.proxies import ProxyEndpoint

ACME = replace(BLOCKED, vendor="acme")
OTHER = replace(BLOCKED, vendor="other")
NAMELESS = replace(BLOCKED, vendor="")
_names = count()


def site(common: dict[str, Any]) -> AdaptivePolicy:
    name = f"site {next(_names)}"
    return AdaptivePolicy(PolicyContext(random.Random(7), concurrency=8, site=name, common=common))


def block(policy: AdaptivePolicy, verdict: Any = ACME, times: int = 1) -> None:
    """Let new sessions be blocked."""
    driver = Driver(policy)
    for _ in range(times):
        driver.report(driver.lease(0.0, Decision.new()), verdict, 0.5)


def taught(common: dict[str, Any], *, limit: float = 20.0, sure: bool = True) -> AdaptivePolicy:
    """A site of which one new session in ten works, rests of 64 s end well, and the limit is known."""
    policy = site(common)
    for i in range(50):
        policy.fresh.learn(None, i % 10 == 0)
        policy.ladder.learn(True, 5, True)
        policy.ladder.learn(True, 0, False)
    table = policy.limit
    for use in range(400):
        table.passed((1.0 + use % limit,) * len(WINDOWS), float(use))
    for now in range(10 if sure else 0):
        table.blocked((1.2 * limit,) * len(WINDOWS), 400.0 + 30.0 * now)
    block(policy)
    return policy


# -- what is taken over ------------------------------------------------------------------------------


def test_a_site_of_the_same_vendor_takes_over_the_odds() -> None:
    """At its first block the odds of new and of rested sessions are those of the other site."""
    common: dict[str, Any] = {}
    taught(common)
    new, nameless = site(common), site(common)
    block(new)
    block(nameless, NAMELESS)
    assert new.fresh.chance < nameless.fresh.chance
    assert new.ladder.chance(True, 5) > nameless.ladder.chance(True, 5) + 0.3
    assert new.ladder.chance(True, 0) < 0.15 < nameless.ladder.chance(True, 0)


@pytest.mark.parametrize("verdict", [BLOCKED, NAMELESS, OTHER])
def test_nothing_is_taken_over_without_a_common_vendor(verdict: Any) -> None:
    """A block that names none, or another, leaves a site as it would be alone."""
    common: dict[str, Any] = {}
    taught(common)
    new, alone = site(common), site({})
    block(new, verdict, times=3)
    block(alone, BLOCKED, times=3)
    assert {**new.dump(), "vendor": 0} == {**alone.dump(), "vendor": 0}
    assert new.fresh.chance == alone.fresh.chance


def test_crawls_do_not_share(policy: AdaptivePolicy) -> None:
    """Sites whose contexts have no dict in common take nothing over."""
    taught({})
    block(policy)
    assert policy.fresh.expected == [0.0, 0.0]


def test_own_answers_outweigh_what_was_taken_over() -> None:
    """Of 16 new sessions all work: a tenth of the others', worth four answers, hardly counts."""
    common: dict[str, Any] = {}
    taught(common)
    new = site(common)
    block(new)
    assert sum(new.fresh.expected) == pytest.approx(ANSWERS, abs=0.01)
    for _ in range(16):
        new.fresh.learn(None, True)
    assert new.fresh.chance > 0.7


def test_hearsay_makes_no_outage() -> None:
    """Where others' odds are better than the own, a new session that fails was expected to fail."""
    common: dict[str, Any] = {}
    other = site(common)
    for _ in range(50):
        other.fresh.learn(None, True)
    block(other)
    new = site(common)
    block(new, times=5)
    driver = Driver(new)
    assert new.fresh.chance > 0.3
    assert new.predict(driver.lease(1.0, Decision.new(tag=None))) < 0.2


def test_sites_that_begin_together_hear_each_other_later() -> None:
    """Nobody knew anything at the first block; it is asked again some blocks later."""
    common: dict[str, Any] = {}
    first, second = site(common), site(common)
    block(first)
    block(second)
    for _ in range(20):
        first.ladder.learn(True, 5, True)
    assert second.ladder.chance(True, 5) < 0.4
    block(second, times=ASK_AGAIN)
    assert second.ladder.chance(True, 5) > 0.6


def test_only_some_sites_are_heard() -> None:
    """A crawl of a thousand sites keeps the last few of a vendor, and a site but once."""
    common: dict[str, Any] = {}
    sites = [site(common) for _ in range(3 * HEARD)]
    for each in sites:
        block(each, times=2)
        block(each, OTHER, times=4)
        block(each, ACME, times=6)
    assert {len(lessons) for lessons in common["vendors"].values()} == {HEARD}


# -- the limit ---------------------------------------------------------------------------------------


def test_a_limit_is_a_hint_and_no_cap() -> None:
    """Nothing is held back; near it scouts go one by one, and the first block there makes a cap."""
    common: dict[str, Any] = {}
    other = taught(common)
    new, alone = site(common), site({})
    block(new)
    assert new.limit.cap == math.inf
    assert other.limit.cap < 24
    for policy in (new, alone):
        policy.limit.safe = 18.0
        policy.limit.scouting = 1
    assert not new.limit.scouts_left(30, scarce=False)
    assert alone.limit.scouts_left(30, scarce=False)
    for policy in (new, alone):
        for use in range(100):
            policy.limit.passed((1.0 + use % 18,) * len(WINDOWS), float(use))
        policy.limit.blocked((22.0,) * len(WINDOWS), 101.0)
    assert new.limit.cap < 22.0
    assert alone.limit.cap == math.inf


def test_a_limit_that_was_passed_already_is_not_taken_over() -> None:
    """Nor one where there is a limit of its own."""
    common: dict[str, Any] = {}
    taught(common)
    passed, limited = site(common), taught({}, limit=6.0)
    passed.limit.safe = 60.0
    block(passed)
    before = limited.limit.dump()
    assert not limited.limit.expect(taught({}).limit, 2.0)
    assert limited.limit.dump() == before
    assert not passed.limit.table.expected


def test_most_sites_of_a_vendor_must_have_a_limit() -> None:
    """One of three is the exception."""
    common: dict[str, Any] = {}
    taught(common)
    taught(common, sure=False)
    taught(common, sure=False)
    new = site(common)
    block(new)
    assert not new.limit.table.expected
    assert "a limit" not in new.explain(0.0)


def test_a_site_that_is_loaded_again_does_not_hear_itself() -> None:
    """What it taught before it was unloaded is its own; other sites still hear it."""
    common: dict[str, Any] = {}
    context = PolicyContext(random.Random(7), site="shop", common=common)
    first = AdaptivePolicy(context)
    block(first, times=3)
    for _ in range(2):
        again = AdaptivePolicy(context)
        again.load(json.loads(json.dumps(first.dump())))
        block(again, times=ASK_AGAIN)
        assert again.fresh.expected == [0.0, 0.0]
        assert "other site" not in again.explain(0.0)
    other = site(common)
    block(other)
    assert "from 1 other site" in other.explain(0.0)


# -- what it is worth --------------------------------------------------------------------------------


class Guarded(Product):
    """A crawl of a site whose blocks name a vendor; ``common`` is shared with other sites' crawls."""

    def __init__(self, common: dict[str, Any], pool: Pool, rng: random.Random) -> None:
        ours = {"common": common, "site": f"site {next(_names)}"}
        self.policy_class = lambda context: AdaptivePolicy(replace(context, **ours))  # type: ignore[assignment]
        super().__init__(pool, rng)

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        self.now = now
        verdict = ACME if kind == "block" else VERDICTS[kind]
        self.pools[site].report(tag, verdict, sent=now - latency, latency=latency)


def crawl(name: str, limit: float | None, seed: int, common: dict[str, Any]) -> dict[str, float]:
    """Fetch 1000 pages; a session over the limit per minute is banned for ten."""
    r = None if limit is None else (limit, limit)
    config = Cfg(name, pages=1000, C=16, n=90, prebanned=0.2, r=r, ban=(600, 600))
    return simulate(config, partial(Guarded, common), seed)


def second_site(first: float | None, second: float | None, seeds: range) -> dict[str, list[float]]:
    """Return burnt sessions, requests and seconds of a second site: [alone, after the first one]."""
    sums = {key: [0.0, 0.0] for key in ("burnt", "req", "span")}
    for seed in seeds:
        common: dict[str, Any] = {}
        crawl("first", first, seed, common)
        for after, known in enumerate(({}, common)):
            measures = crawl("second", second, 1000 + seed, known)
            for key, pair in sums.items():
                pair[after] += measures[key]
    return sums


def test_a_second_site_of_a_vendor_is_learnt_in_fewer_blocks() -> None:
    """20 requests a minute at both: over ten crawls the second burns under two thirds as many
    sessions as it would alone, in the same time."""
    sums = second_site(20, 20, range(10))
    assert sums["burnt"][1] < 0.66 * sums["burnt"][0]
    assert sums["req"][1] < sums["req"][0]
    assert sums["span"][1] < 1.05 * sums["span"][0]


@pytest.mark.parametrize(("first", "second"), [(20, None), (20, 100), (8, 40), (100, 20), (40, 8)])
def test_a_customer_with_another_limit_is_not_slower(first: float, second: float | None) -> None:
    """Over ten crawls it takes at most a twentieth more seconds and requests than alone."""
    sums = second_site(first, second, range(10))
    assert sums["span"][1] < 1.05 * sums["span"][0]
    assert sums["req"][1] < 1.05 * sums["req"][0]


# -- state -------------------------------------------------------------------------------------------


def reloaded(policy: AdaptivePolicy, common: dict[str, Any]) -> AdaptivePolicy:
    again = site(common)
    again.load(json.loads(json.dumps(policy.dump())))
    return again


def test_a_site_that_was_loaded_teaches() -> None:
    """After a restart, what was saved of one site serves another that is new."""
    common: dict[str, Any] = {}
    reloaded(taught({}), common)
    new = site(common)
    block(new)
    assert new.ladder.chance(True, 5) > 0.7
    assert new.limit.table.expected


def test_what_was_taken_over_survives_a_restart() -> None:
    """The odds are the same, and so is what is told of them."""
    common: dict[str, Any] = {}
    taught(common)
    new = site(common)
    block(new, times=3)
    again = reloaded(new, {})
    assert again.dump() == new.dump()
    assert again.fresh.chance == pytest.approx(new.fresh.chance, abs=1e-3)
    assert again.ladder.chance(True, 5) == pytest.approx(new.ladder.chance(True, 5), abs=1e-3)
    assert again.explain(0.0) == new.explain(0.0)


def test_it_is_told() -> None:
    """The vendor, how many sites it heard, and what."""
    common: dict[str, Any] = {}
    known = taught(common)
    new = site(common)
    assert "Its blocks name acme." in known.explain(0.0)
    assert "acme" not in new.explain(0.0)
    block(new)
    told = new.explain(0.0)
    assert "Its blocks name acme; from 1 other site behind it, as a hint, it took over" in told
    assert "a chance of 10 % for new ones, the odds of rested sessions, a limit of " in told


@pytest.mark.parametrize(
    "state",
    [
        None,
        5,
        [],
        {},
        {"blocks": 3},
        {"blocks": {}},
        {"blocks": {"acme": -1}},
        {"blocks": {"acme": "x"}},
        {"blocks": {"a" * 1000: 3}},
        {"blocks": {"\x1b[31m": 3}},
        {"blocks": {"": 3}},
        {"blocks": {str(n): 1 for n in range(1000)}},
    ],
)
def test_damaged_state_changes_nothing(state: object) -> None:
    """Neither here nor for the sites that would hear it."""
    common: dict[str, Any] = {}
    policy = site(common)
    policy.vendor.load(state)
    assert policy.vendor.dump() == {}
    assert common["vendors"] == {}


@pytest.mark.parametrize(
    "value", [None, 7, "x", [], [1], [-1, 2], [[1]], [["a", "b"]] * 2, [1e300, 0]]
)
def test_damaged_parts_are_left_out(value: object) -> None:
    """The vendor's name is kept; odds that make no sense are not."""
    policy = site({})
    parts = {"sites": value, "fresh": value, "rungs": value, "hint": value}
    policy.vendor.load({"blocks": {"acme": 2}, **parts})
    assert policy.vendor.name == "acme"
    assert policy.fresh.chance == pytest.approx(0.5, abs=0.4)
    assert policy.ladder.chance(True, 3) == pytest.approx(1 / 3)
    policy.explain(0.0)


# -- the seam ----------------------------------------------------------------------------------------


def pools(proxies: list[ProxyEndpoint] | None = None) -> SitePools:
    """Return those of a crawl; without proxies it goes directly."""
    source = SimpleNamespace(direct=proxies is None, endpoints=lambda: proxies)
    return SitePools(
        policy=AdaptivePolicy,
        context={"concurrency": 4},
        source=source,  # type: ignore[arg-type]
        identities=SimpleNamespace(draw=lambda rng: {}),
        limits=Limits(),
        max_sites=10,
        dry_run=False,
        rng=random.Random(1),
        clock=lambda: 0.0,
        watcher=Watcher(),
        outbox=SimpleNamespace(store=SimpleNamespace(shared=False), thread=None),  # type: ignore[arg-type]
        tenure=Tenure(),
        remember=lambda session: None,
    )


def test_a_policy_knows_how_many_proxies_are_left() -> None:
    """Those of a list that no session has taken yet; without a list there are none to count."""
    urls = [f"http://10.0.0.{n}:80" for n in range(1, 6)]
    pool = pools([parse_proxy(url, setting="TEST") for url in urls])._make("a.example")
    assert pool.policy.context.free() == 5
    assert isinstance(pool.try_acquire(), Lease)
    assert pool.policy.context.free() == 4
    assert pools()._make("a.example").policy.context.free() == 0


def test_the_sites_of_a_crawl_have_one_dict_in_common() -> None:
    """`SitePools` hands it to each policy, and another crawl's are handed another one."""
    crawl = pools()
    first, second = (crawl._make(name).policy.context.common for name in ("a.example", "b.example"))
    assert first is second
    assert "vendors" in first
    assert pools()._make("a.example").policy.context.common is not first
