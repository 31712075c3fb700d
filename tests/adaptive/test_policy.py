"""The adaptive policy as a whole, driven through its port."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.policies import POLICIES
from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.adaptive.choosing import LONG_ENOUGH, NEWNESS, PATIENCE
from scrapy_session_filter.policies.adaptive.intensity import BINS, WINDOWS, Meter
from scrapy_session_filter.policies.adaptive.record import How, Pick
from scrapy_session_filter.policies.base import KEEP, RETIRE, Decision, PolicyContext
from scrapy_session_filter.session import Outcome, Session
from scrapy_session_filter.verdict import OK, Verdict

from .conftest import BLOCKED, PROXY_ERROR, SITE_ERROR, Driver, throttled

if TYPE_CHECKING:
    import random


def test_it_is_known_by_name() -> None:
    """SESSION_FILTER_POLICY = "adaptive" means this class."""
    module, _, name = POLICIES["adaptive"].rpartition(".")
    assert (module, name) == (AdaptivePolicy.__module__.removesuffix(".policy"), "AdaptivePolicy")


def test_the_first_request_takes_a_new_session(driver: Driver) -> None:
    """With nothing known, a session is made."""
    decision = driver.choose(0.0)
    assert decision.session is None
    assert decision.wait is None


def test_a_few_proxies_are_not_flooded_at_the_start(driver: Driver) -> None:
    """Through three proxies no 32 requests go out before the first answer."""
    driver.most = 3
    sent = 0
    for _ in range(32):
        decision = driver.choose(0.0)
        if decision.wait is None:
            driver.lease(0.0, decision)
            sent += 1
    assert sent == 3


@pytest.mark.parametrize("down", [True, False])
def test_an_outage_says_nothing_of_sessions_that_never_worked(driver: Driver, down: bool) -> None:
    """Their odds fall by what fails while the site is up, and not while it is down."""
    lease = driver.lease(0.0, Decision.new())
    driver.report(lease, BLOCKED, 0.0)
    driver.wake(lease.session)
    ladder = driver.policy.ladder
    before = ladder.chance(worked=False, rung=0)
    probe = Decision.use(lease.session, "probe", Pick(How.PROBE))
    driver.report(driver.lease(10.0, probe), BLOCKED, 11.0, down=down)
    assert (ladder.chance(worked=False, rung=0) == before) is down


def test_a_session_that_works_is_used_again(driver: Driver) -> None:
    """After a success, a retried page goes through the session that works."""
    (session,) = driver.working(1)
    assert driver.choose(1.0, attempt=1).session is session


def test_a_page_is_not_sent_where_it_has_failed(driver: Driver) -> None:
    """Sessions to avoid are not chosen, working or rested."""
    (session,) = driver.working(1)
    for _ in range(50):
        assert driver.choose(1.0, avoid=(session.id,)).session is not session


def test_a_blocked_session_rests_and_is_probed(driver: Driver) -> None:
    """It rests 2 s, and each failed probe doubles that."""
    first, _ = driver.working(2)
    lease = driver.lease(1.0, Decision.use(first, "test"))
    assert driver.report(lease, BLOCKED, 1.0).rest == 2.0
    driver.most = 0
    for now, expected in ((3.0, 4.0), (7.0, 8.0)):
        driver.wake(first)
        driver.policy.budget.tokens = 5.0
        probe = driver.choose(now)
        assert probe.session is first
        assert driver.report(driver.lease(now, probe), BLOCKED, now).rest == expected


@pytest.mark.parametrize("proven", [False, True])
def test_in_a_long_drought_a_rest_is_bound_by_what_was_enough_before(
    driver: Driver, proven: bool
) -> None:
    """An hour of it asks for half an hour's rest, or for four times that after which one came back."""
    policy = driver.policy
    (session,) = driver.working(1)
    if proven:
        policy.ladder.learn(worked=True, rung=4, ok=True)
    rest = LONG_ENOUGH * policy.ladder.rest(4)
    driver.report(
        driver.lease(3600.0 - rest, Decision.use(session, "test")), BLOCKED, 3600.0 - rest
    )
    driver.wake(session)
    driver.most = 0
    assert driver.choose(3599.0).why == "wait"
    assert (driver.choose(3600.5).why == "probe") is proven


def test_a_burst_of_blocks_costs_one_rest(driver: Driver) -> None:
    """The answers to what was in flight beside the first block change nothing."""
    first, _ = driver.working(2)
    leases = [driver.lease(1.0, Decision.use(first, "test")) for _ in range(3)]
    assert driver.report(leases[0], BLOCKED, 1.5).rest == 2.0
    before = json.dumps(driver.policy.dump())
    assert driver.report(leases[1], BLOCKED, 1.6) is KEEP
    assert driver.report(leases[2], OK, 1.7) is KEEP
    assert not first.memo.working
    assert json.loads(before)["limit"]["cap"] == driver.policy.dump()["limit"]["cap"]


def test_a_dead_site_costs_no_session(driver: Driver) -> None:
    """While the site is down, and for its errors, working sessions stay and nothing is learnt."""
    sessions = driver.working(5)
    mean = driver.policy.working.mean
    for session in sessions:
        lease = driver.lease(1.0, Decision.use(session, "test"))
        assert driver.report(lease, BLOCKED, 1.5, down=True) is KEEP
        lease = driver.lease(1.0, Decision.use(session, "test"))
        assert driver.report(lease, SITE_ERROR, 1.5) is KEEP
    assert len(driver.policy.working) == 5
    assert driver.policy.working.mean == mean


def test_one_time_out_does_not_cost_a_good_session_its_place(driver: Driver) -> None:
    """A proxy fault lowers a session's value; the endpoint's own health is the pool's affair."""
    (session,) = driver.working(1)
    for _ in range(5):
        driver.report(driver.lease(1.0, Decision.use(session, "test")), OK, 1.5)
    lease = driver.lease(2.0, Decision.use(session, "test"))
    assert driver.report(lease, PROXY_ERROR, 3.0) is KEEP
    assert session.memo.working


def test_a_throttled_session_rests_as_long_as_it_was_told(driver: Driver) -> None:
    """And the limit is learnt from it at once."""
    first, _ = driver.working(2)
    for i in range(8):
        lease = driver.lease(1.0 + i, Decision.use(first, "test"))
        driver.report(lease, OK, 1.5 + i)
    lease = driver.lease(9.0, Decision.use(first, "test"))
    assert driver.report(lease, throttled(40.0), 9.5).rest == 40.0
    assert driver.policy.limit.cap < 10


def test_gateway_sessions_that_never_worked_go(rng: random.Random) -> None:
    """New ones never run out there, so a failed one is not kept."""
    driver = Driver(AdaptivePolicy(PolicyContext(rng=rng, concurrency=8, gateway=True)))
    assert driver.report(driver.lease(0.0, driver.choose(0.0)), BLOCKED, 0.5) is RETIRE


def test_exploration_stops_when_it_is_not_paid_for(driver: Driver) -> None:
    """Without scarcity, a pool with working sessions hardly tries new ones that mostly fail.

    Less than one request in ten, that is.
    """
    driver.working(8)
    for _ in range(60):
        driver.policy.fresh.learn(None, ok=False)
    driver.policy.budget.tokens = 0.0
    new = 0
    for i in range(200):
        decision = driver.choose(20.0 * i)
        fails = decision.why != "working"
        new += fails
        lease = driver.lease(20.0 * i, decision)
        driver.report(lease, BLOCKED if fails else OK, 20.0 * i + 1)
    assert new < 20


def used_up(driver: Driver, cap: float) -> None:
    """Have three sessions that work, used so often that another request is over the cap."""
    driver.working(3)
    for session in driver.sessions:
        session.memo.meter = Meter(0.0, [2.0] * len(WINDOWS))
    driver.policy.limit.cap = cap


def test_a_page_with_few_attempts_left_waits_for_a_session_that_works(driver: Driver) -> None:
    """With 41 s to wait for one, the sixth attempt tries a new session and the tenth does not."""
    used_up(driver, cap=2.0)
    driver.policy.budget.tokens = 20.0
    assert driver.choose(0.0, attempt=9).why in {"risked", "wait"}
    assert driver.choose(0.0, attempt=5).why == "new"


def test_risking_the_cap_earns_no_more_than_it_is_expected_to_cost(driver: Driver) -> None:
    """Where going over the cap hardly ever costs a ban, it pays for no exploration."""
    used_up(driver, cap=2.0)
    driver.policy.limit.table.hazard[:] = [0.01] * BINS
    driver.policy.budget.tokens = 0.0
    driver.most = 0
    assert driver.choose(0.0).why == "risked"
    assert 0.0 < driver.policy.budget.tokens < 0.2


def test_a_short_wait_is_not_worth_a_ban_however_fast_the_pages_come(driver: Driver) -> None:
    """Waiting 2 s costs no hundred requests where a page takes 20 ms: the sessions are what is short."""
    used_up(driver, cap=2.9)
    driver.policy.working.latency = 0.02
    driver.policy.limit.table.hazard[:] = [0.5] * BINS
    driver.most = 0
    assert driver.choose(0.0).why == "wait"


@pytest.mark.parametrize(
    ("risk", "chance", "free", "kept"),
    [
        (0.03, 1.0, 100, False),
        (0.1, 1.0, 100, True),  # many uses beyond it are blocked
        (0.03, 0.1, 100, True),  # another session costs ten requests
        (0.03, 1.0, 8, True),  # the list would not last
        (0.03, 1.0, 9, False),
    ],
)
def test_a_limit_is_kept_only_where_its_bans_cost_more(
    rng: random.Random, risk: float, chance: float, free: int, kept: bool
) -> None:
    """Two sessions are banned now, and nothing under the cap is left: beyond it, or a new one."""
    policy = AdaptivePolicy(PolicyContext(rng=rng, concurrency=8, free=lambda: free))
    driver = Driver(policy)
    used_up(driver, cap=2.0)
    policy.limit.table.hazard[:] = [risk] * BINS
    policy.fresh.chance = chance
    policy.budget.tokens = 0.0
    policy.budget.went_out(0.0)
    policy.budget.went_out(0.0)
    assert policy._chooser.cap(can_create=True) == (2.0 if kept else math.inf)
    decision = driver.choose(0.0)
    assert (decision.why == "working") is not kept
    assert ("not kept" in policy.explain(0.0)) is not kept
    assert policy._chooser.cap(can_create=False) == 2.0


def test_at_a_gateway_new_sessions_never_run_out(rng: random.Random) -> None:
    """But what the site asks for itself is kept there, too."""
    policy = AdaptivePolicy(PolicyContext(rng=rng, concurrency=8, gateway=True))
    driver = Driver(policy)
    used_up(driver, cap=2.0)
    policy.limit.table.hazard[:] = [0.01] * BINS
    for _ in range(50):
        policy.budget.went_out(0.0)
    assert driver.choose(0.0, attempt=1).why == "working"
    policy.limit.blocked((2.5,) * len(WINDOWS), 0.0, retry_after=5.0)
    assert policy._chooser.cap(can_create=True) == policy.limit.cap < math.inf


def test_the_fewer_sessions_and_the_longer_bans_the_rarer_a_raise(driver: Driver) -> None:
    """It is so in a short list that is used up; not with new ones to be had, nor where the site says
    itself for how long to rest."""
    limit, budget = driver.policy.limit, driver.policy.budget
    driver.working(2)
    driver.choose(0.0)
    assert limit.patience == 0.0
    driver.most = 0
    driver.choose(0.0)
    assert limit.patience == PATIENCE * budget.outage / 2
    driver.working(2)
    driver.choose(0.0)
    assert limit.patience == PATIENCE * budget.outage / 4
    limit.blocked((20.0,) * len(WINDOWS), 0.0, retry_after=5.0)
    driver.choose(0.0)
    assert limit.patience == 0.0


@pytest.mark.parametrize("passing", [False, True])
def test_where_most_blocks_are_gone_at_once_only_those_that_last_are_counted(
    driver: Driver, passing: bool
) -> None:
    """Elsewhere a block tells of the limit at once; there, when its second probe has failed."""
    policy = driver.policy
    first, _ = driver.working(2)
    for _ in range(20):
        policy.ladder.learn(worked=True, rung=0, ok=passing)
    driver.report(driver.lease(1.0, Decision.use(first, "test")), BLOCKED, 1.0)
    driver.most = 0

    def counted() -> float:
        return sum(policy.limit.table.blocks[0])

    told = [counted()]
    for now in (4.0, 9.0):
        driver.wake(first)
        policy.budget.tokens = 5.0
        driver.report(driver.lease(now, driver.choose(now)), BLOCKED, now)
        told.append(counted())
    assert told == ([0, 0, 1] if passing else [1, 1, 1])


def test_a_passing_block_that_was_not_counted_takes_none_back(driver: Driver) -> None:
    """When its session works again at once, what other blocks have told stays."""
    policy = driver.policy
    first, second = driver.working(2)
    driver.report(driver.lease(1.0, Decision.use(second, "test")), BLOCKED, 1.0)
    for _ in range(20):
        policy.ladder.learn(worked=True, rung=0, ok=True)
    driver.report(driver.lease(1.0, Decision.use(first, "test")), BLOCKED, 1.0)
    driver.wake(first)
    driver.report(driver.lease(4.0, Decision.use(first, "test")), OK, 4.0)
    assert first.memo.working
    assert sum(policy.limit.table.blocks[0]) == 1


def test_an_abandoned_exploration_is_not_paid(driver: Driver) -> None:
    """Tokens come back, and scouts in flight do not leak."""
    driver.working(1)
    before = driver.policy.budget.tokens = 5.0
    lease = driver.lease(0.0, driver.choose(0.0))
    assert driver.policy.budget.tokens < before
    driver.policy.abandoned(lease)
    assert driver.policy.budget.tokens == before
    assert driver.policy.limit.scouting == 0


def test_a_soft_ban_found_by_the_spider_costs_a_rest(driver: Driver) -> None:
    """An amended success takes the session out of the working set."""
    (session,) = driver.working(1)
    lease = driver.lease(1.0, Decision.use(session, "test"))
    driver.report(lease, OK, 1.5)
    reaction = driver.policy.amended(session, Outcome(BLOCKED, 2.0, 1.0, 0.5))
    assert reaction.rest == 2.0
    assert not session.memo.working


def test_a_restart_does_not_learn_again(driver: Driver, rng: random.Random) -> None:
    """Dump and load, through JSON: what works still works, at the same odds and limit."""
    first, *_ = driver.working(5)
    lease = driver.lease(1.0, Decision.use(first, "test"))
    driver.report(lease, BLOCKED, 1.5)
    again = Driver(AdaptivePolicy(PolicyContext(rng=rng, concurrency=8)))
    again.policy.load(json.loads(json.dumps(driver.policy.dump())))
    for old in driver.sessions:
        saved = json.loads(json.dumps(driver.policy.dump_session(old)))
        session = Session(old.id, "site", None, {}, 0.0, old.used, oks=old.oks, learnt=saved)
        session.ready = old.ready
        again.policy.added(session)
        if session.ready:
            again.policy.ready(session)
    assert len(again.policy.working) == 4
    assert again.policy.fresh.chance == pytest.approx(driver.policy.fresh.chance, abs=1e-3)
    assert again.policy.dump() == driver.policy.dump()


@pytest.mark.parametrize("learnt", [None, 5, [], [1, 2, 3, 4, 99, True, True, []], ["x"] * 8])
def test_sessions_of_another_policy_or_damaged_are_taken_as_they_are(
    learnt: object, policy: AdaptivePolicy
) -> None:
    """One that had successes works; one that had none is unknown."""
    for oks in (0, 3):
        session = Session("a" * 12, "site", None, {}, 0.0, 0.0, oks=oks, learnt=learnt)
        session.ready = True
        policy.added(session)
        policy.ready(session)
    assert len(policy.working) == 1


def test_it_explains_what_it_learnt(driver: Driver) -> None:
    """One paragraph: how many work, the limit and how sure, and when rests end well."""
    driver.working(3)
    for _ in range(20):
        driver.policy.ladder.learn(True, 4, True)
    driver.policy.limit.blocked((20.0,) * len(WINDOWS), 0.0, retry_after=10.0)
    told = driver.policy.explain(1.0)
    assert "3 sessions take requests" in told
    assert "17 requests per 60 s" in told
    assert "after 32 s" in told


def test_retired_sessions_are_forgotten(driver: Driver) -> None:
    """They are neither candidates nor probes any more."""
    first, second = driver.working(2)
    for session in (first, second):
        session.ready = False
        driver.policy.busy(session)
        driver.policy.removed(session)
    driver.most = 0
    assert len(driver.policy.working) == 0
    assert driver.choose(1.0).wait is not None


def test_a_blocked_session_that_is_retired_is_out_no_more(driver: Driver) -> None:
    """Else the outages would be taken to last for ever."""
    first, _ = driver.working(2)
    driver.report(driver.lease(1.0, Decision.use(first, "test")), BLOCKED, 1.5)
    assert driver.policy.budget.out == 1
    driver.policy.removed(first)
    assert driver.policy.budget.out == 0


@pytest.mark.parametrize("first", [OK, BLOCKED])
def test_a_proxy_error_does_not_end_a_ban(driver: Driver, first: Verdict) -> None:
    """After it the session is used again; if it works then, its ban has lasted all the same."""
    session, _ = driver.working(2)
    policy, record = driver.policy, session.memo
    blocked = Decision.use(session, "test", Pick(How.WORKING))
    driver.report(driver.lease(1.0, blocked), BLOCKED, 1.5)
    for verdict in (BLOCKED, BLOCKED, BLOCKED, PROXY_ERROR):
        driver.wake(session)
        probe = Decision.use(session, "probe", Pick(How.PROBE, record.rung, worked=True))
        driver.report(driver.lease(10.0, probe), verdict, 11.0)
    assert record.working
    for verdict in (first, OK):
        assert policy.budget.out == 1
        outage = policy.budget.outage
        blocks = [row[:] for row in policy.limit.table.blocks]
        how = Pick(How.WORKING if record.working else How.PROBE, record.rung, worked=True)
        driver.report(driver.lease(20.0, Decision.use(session, "test", how)), verdict, 21.0)
        if verdict is OK:
            break
        driver.wake(session)
    assert policy.limit.table.blocks == blocks
    assert policy.budget.out == 0
    assert policy.budget.outage < outage


def test_what_never_came_to_the_site_is_no_try(driver: Driver) -> None:
    """Thousands of pages out of a cache are no drought."""
    for _ in range(1000):
        decision = driver.choose(0.0)
        assert decision.wait is None
        lease = driver.lease(0.0, decision)
        lease.session.in_flight -= 1
        driver.policy.abandoned(lease)


def test_a_redirect_goes_on_with_its_pick(driver: Driver) -> None:
    """An exploration is paid until its last hop shows what came of it, and so is a try."""
    policy = driver.policy
    before = policy.budget.tokens = 5.0
    for verdict, left in ((BLOCKED, before - 1.0), (OK, before - 1.0 - (1.0 - NEWNESS))):
        driver.working(1)
        lease = driver.lease(0.0, Decision.new(tag=Pick(How.FRESH, price=1.0)))
        policy.budget.tokens -= 1.0
        lease.session.in_flight -= 1
        policy.paused(lease)
        hop = driver.lease(1.0, Decision.use(lease.session, "redirect"))
        assert hop.tag is lease.tag
        driver.report(hop, verdict, 1.5)
        assert policy.budget.tokens == pytest.approx(left)
