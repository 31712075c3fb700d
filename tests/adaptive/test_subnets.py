"""Bans that a subnet shares: how they are told from a session's own, and what they teach."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from benchmarks.arena import Run
from benchmarks.contender import Product
from benchmarks.worlds import Cfg, scenarios
from scrapy_session_filter.explaining import explain
from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.adaptive.intensity import WINDOWS, Meter
from scrapy_session_filter.policies.adaptive.record import How, Pick, Record
from scrapy_session_filter.policies.adaptive.subnets import RESTING, TOGETHER, Subnets
from scrapy_session_filter.policies.base import Decision, PolicyContext
from scrapy_session_filter.proxies import parse_proxy
from scrapy_session_filter.session import Outcome, Session
from scrapy_session_filter.verdict import OK

from .conftest import BLOCKED, Driver, new_session

if TYPE_CHECKING:
    from scrapy_session_filter.verdict import Verdict

HERE, THERE, ELSEWHERE = "10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"


class Bans:
    """Subnets, and answers to sessions of them."""

    def __init__(self) -> None:
        self.subnets = Subnets()

    def outcome(self, verdict: Verdict, now: float, sent: float) -> Outcome:
        return Outcome(verdict, now, sent, now - sent)

    def passes(self, group: str, now: float, sent: float | None = None) -> list[Record]:
        sent = now - 0.5 if sent is None else sent
        return self.subnets.passed(group, Pick(How.WORKING), self.outcome(OK, now, sent))

    def blocks(self, group: str, now: float) -> tuple[bool, list[Record], Record]:
        record: Record = new_session().memo
        outcome = self.outcome(BLOCKED, now, now - 0.2)
        shared, earlier = self.subnets.blocked(record, group, Pick(How.WORKING), outcome)
        return shared, earlier, record

    def ban(self, group: str, now: float) -> None:
        """Let a subnet be banned while another gets through."""
        self.blocks(group, now)
        self.passes(THERE if group != THERE else HERE, now + 1.0)
        self.blocks(group, now + 1.5)


@pytest.fixture
def bans() -> Bans:
    return Bans()


def test_a_ban_is_shared_if_two_are_blocked_while_others_get_through(bans: Bans) -> None:
    """The first block passes for the session's own, until the second one; then the subnet rests."""
    shared, earlier, first = bans.blocks(HERE, 10.0)
    assert not shared
    bans.passes(THERE, 11.0)
    shared, earlier, second = bans.blocks(HERE, 12.0)
    assert shared
    assert earlier == [first, second]
    assert bans.subnets.pause(HERE, 12.0) == RESTING
    assert bans.subnets.pause(THERE, 12.0) == 0.0
    assert bans.subnets.pause(None, 12.0) == 0.0


def test_that_others_get_through_may_be_seen_later(bans: Bans) -> None:
    """Blocks arrive sooner than pages: the first page from elsewhere settles it."""
    _, _, first = bans.blocks(HERE, 10.0)
    shared, _, second = bans.blocks(HERE, 10.2)
    assert not shared
    assert bans.passes(THERE, 10.4, sent=9.0) == []  # it was sent before
    assert bans.passes(THERE, 11.5, sent=10.0) == [first, second]
    assert bans.subnets.pause(HERE, 11.5) > 0


def test_a_block_that_no_other_session_shares_is_its_own(bans: Bans) -> None:
    """A page through the same subnet, asked for afterwards, says so."""
    for start in (10.0, 40.0, 70.0):
        bans.blocks(HERE, start)
        bans.passes(THERE, start + 1.0)
        bans.passes(HERE, start + 1.0)
        shared, earlier, _ = bans.blocks(HERE, start + 2.0)
        assert not shared
        assert not earlier
        bans.passes(HERE, start + 9.0)
    assert not bans.subnets.on
    assert bans.subnets.dump() == {}


def test_a_page_asked_for_before_the_block_says_nothing(bans: Bans) -> None:
    """It comes late, as pages take longer than blocks."""
    bans.blocks(HERE, 10.0)
    bans.passes(HERE, 10.5, sent=9.0)
    bans.passes(THERE, 11.0)
    assert bans.blocks(HERE, 11.5)[0]


def test_an_outage_is_no_ban_of_subnets(bans: Bans) -> None:
    """Where sessions of several subnets are blocked at once, the first page proves nothing."""
    for now in (10.0, 10.1):
        for group in (HERE, THERE):
            bans.blocks(group, now)
    assert bans.passes(ELSEWHERE, 12.0, sent=11.5) == []
    assert not bans.subnets.are_shared


def test_a_list_of_one_subnet_rests_for_seconds_at_most(bans: Bans) -> None:
    """Also one of the ports of a single host: without others to compare with, nothing is proven."""
    for now in range(10, 40):
        bans.blocks(HERE, float(now))
        bans.passes(HERE, now + 0.5, sent=float(now) - 0.5)
        assert bans.subnets.pause(HERE, now + 0.5) <= RESTING
    assert not bans.subnets.are_shared
    bans.passes(HERE, 41.0)
    assert bans.subnets.pause(HERE, 41.0) == 0.0


def test_blocks_long_after_each_other_are_two(bans: Bans) -> None:
    """A second session's block counts for so many seconds."""
    bans.blocks(HERE, 10.0)
    bans.passes(THERE, 12.0)
    assert not bans.blocks(HERE, 10.0 + TOGETHER)[0]


def test_one_session_at_a_time_tries_whether_a_ban_is_over(bans: Bans) -> None:
    """Each try that fails doubles the rest, what was in flight does not; a page ends it."""
    bans.ban(HERE, 10.0)
    subnets = bans.subnets
    bans.blocks(HERE, 11.6)
    assert subnets.pause(HERE, 11.6) == RESTING
    record: Record = new_session().memo
    assert subnets.pause(HERE, 16.0) == 0.0
    subnets.use(record, HERE, Pick(How.WORKING), 16.0)
    assert subnets.pause(HERE, 16.0) == RESTING
    shared, earlier, _ = bans.blocks(HERE, 16.5)
    assert shared
    assert not earlier
    assert subnets.pause(HERE, 16.5) == 2 * RESTING
    bans.passes(HERE, 30.0)
    assert subnets.pause(HERE, 30.0) == 0.0


def test_where_bans_are_shared_the_first_block_rests_the_subnet(bans: Bans) -> None:
    """Nobody needs to be blocked a second time to see it coming."""
    bans.ban(HERE, 10.0)
    shared, _, _ = bans.blocks(ELSEWHERE, 100.0)
    assert not shared
    assert bans.subnets.pause(ELSEWHERE, 100.0) == RESTING


def test_uses_from_before_they_are_counted_are_not_forgotten(bans: Bans) -> None:
    """A session's own meter brings them along, once."""
    bans.ban(HERE, 10.0)
    record: Record = new_session().memo
    record.meter = Meter(15.0, [7.0] * len(WINDOWS))
    pick = Pick(How.WORKING)
    bans.subnets.use(record, THERE, pick, 16.0)
    record.meter.use(16.0)
    assert pick.subnet[3] == pytest.approx(8.0, abs=0.1)
    bans.subnets.use(record, THERE, pick, 16.0)
    assert pick.subnet[3] == pytest.approx(9.0, abs=0.1)


def grouped(driver: Driver, group: str, number: int) -> list[Session]:
    """Let so many sessions of a subnet succeed once."""
    sessions = driver.working(number)
    for session in sessions:
        session.memo.group = group
    return sessions


def test_a_subnets_ban_is_no_evidence_of_a_sessions_limit(driver: Driver) -> None:
    """What the first one's block taught is taken back when the second one's shows whose it was."""
    here, there = grouped(driver, HERE, 3), grouped(driver, THERE, 1)
    limit = driver.policy.limit
    for session in here:
        lease = driver.lease(1.0, Decision.use(session, "test"))
        driver.report(lease, BLOCKED, 1.2)
    assert sum(limit.table.blocks[0]) == 3
    lease = driver.lease(1.1, Decision.use(there[0], "test"))
    driver.report(lease, OK, 2.0)
    assert sum(limit.table.blocks[0]) == 0
    assert all(session.memo.doubt is None for session in here)
    assert driver.policy.limit.cap == float("inf")


def test_proxies_that_share_a_gateway_have_no_subnet() -> None:
    """Sessions by user name are other exits each time: its address says nothing of them."""
    gateway = parse_proxy("http://user-{session}:secret@192.0.2.1:8000", setting="TEST")
    single = parse_proxy("http://192.0.2.1:8000", setting="TEST")
    groups = [
        Record(Session("a" * 12, "site", endpoint, {}, 0.0, 0.0)).group
        for endpoint in (gateway, single)
    ]
    assert groups == [None, "192.0.2.0/24"]


def subnet_limited(pages: int = 4000) -> Cfg:
    config = next(config for config in scenarios() if config.name.startswith("S3"))
    config.pages = pages
    return config


def test_subnets_are_paced_where_a_site_limits_them() -> None:
    """60 requests a minute and /24: in four crawls fewer than nine subnets each are burnt.

    And most requests succeed, although 60 % of the subnets were banned from the beginning.
    """
    for seed in range(4):
        run = Run(subnet_limited(), Product, seed)
        measures = run.result()
        assert measures["burnt"] < 9 * 16
        assert measures["succ"] > 0.9
        (pool,) = run.policy.pools.values()
        told = explain(pool)
        assert "% of blocks are a whole subnet's." in told
        assert "A subnet may " in told


@pytest.mark.parametrize(
    "config",
    [
        Cfg("a limit per session", pages=2500, n=300, r=(8, 12), ban=(300, 300)),
        Cfg("soft blocks", pages=2500, n=100, soft=(0.7, 3)),
        Cfg("bans that come and go", pages=2500, n=300, churn=(200, 100)),
        Cfg("everybody is blocked", pages=2500, n=300, outages=((20, 60, "block"),)),
    ],
    ids=lambda config: config.name,
)
def test_subnets_are_not_paced_where_it_is_not_they_that_are_banned(config: Cfg) -> None:
    """16 proxies in each /24, and blocks of four other kinds, with three seeds each."""
    for seed in range(3):
        run = Run(config, Product, seed)
        run.result()
        (pool,) = run.policy.pools.values()
        assert not pool.policy.subnets.paced
        assert not pool.policy.subnets.are_shared


def test_nothing_is_counted_at_a_gateway() -> None:
    """There are no subnets, however much is blocked."""
    config = Cfg("gateway", pages=1500, pool="gateway", n=2000, prebanned=0.4, r=(10, 20))
    run = Run(config, Product, 1)
    run.result()
    (pool,) = run.policy.pools.values()
    assert not pool.policy.subnets.known


def test_it_survives_a_restart() -> None:
    """The limit of subnets and how sure it is are the same after dump and load, through JSON."""
    run = Run(subnet_limited(3000), Product, 2)
    run.result()
    (pool,) = run.policy.pools.values()
    saved = json.loads(json.dumps(pool.policy.dump()))
    again = AdaptivePolicy(PolicyContext(random.Random(1)))
    again.load(saved)
    assert again.subnets.paced
    assert again.dump()["subnets"] == saved["subnets"]


@pytest.mark.parametrize(
    "state",
    [None, 5, [], {}, {"blocks": [1]}, {"blocks": [-1, 2]}, {"blocks": ["a", None], "limit": 3}],
)
def test_damaged_state_changes_nothing(state: object) -> None:
    """What it did not write is ignored."""
    subnets = Subnets()
    subnets.load(state)
    assert not subnets.on
    assert subnets.dump() == {}
    subnets.load({"blocks": [5.0, 0.0], "limit": {"cap": "x", "scale": 99, "table": 7}})
    assert subnets.are_shared
    assert not subnets.paced
