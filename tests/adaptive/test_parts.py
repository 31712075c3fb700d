"""Ladder, budget, choice among working sessions, and new sessions: each alone."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.policies.adaptive.budget import Budget
from scrapy_session_filter.policies.adaptive.drought import Drought
from scrapy_session_filter.policies.adaptive.fresh import NOWHERE, Fresh
from scrapy_session_filter.policies.adaptive.intensity import WINDOWS, Meter
from scrapy_session_filter.policies.adaptive.ladder import RUNGS, Ladder
from scrapy_session_filter.policies.adaptive.limit import Limit
from scrapy_session_filter.policies.adaptive.working import Choice, WorkingSet
from scrapy_session_filter.policies.base import Ask

from .conftest import new_session

if TYPE_CHECKING:
    from scrapy_session_filter.policies.adaptive.record import Record


def record(*, good: float = 5.0, latency: float = 1.0, level: float = 1.0) -> Record:
    session = new_session()
    made: Record = session.memo
    made.good, made.weight, made.latency = good, 4.0, 4.0 * latency
    made.meter = Meter(0.0, [level] * len(WINDOWS))
    return made


def working(rng: random.Random, records: list[Record]) -> WorkingSet:
    made = WorkingSet(rng, 8)
    made.latency = 1.0
    for one in records:
        made.enter(one)
    return made


def choose(
    made: WorkingSet,
    limit: Limit | None = None,
    fresh: Fresh | None = None,
    now: float = 0.0,
    *,
    few: bool = False,
) -> Choice:
    ask = Ask(now, 0, (), True)
    fresh, limit = fresh or Fresh(random.Random(0)), limit or Limit()
    return made.choose(ask, limit, limit.cap, fresh, scouts=not few, trials=False, few=few)


# -- ladder ------------------------------------------------------------------------------------


def test_rests_double() -> None:
    """2 s, 4 s, and 2.3 h at the top."""
    assert [Ladder.rest(rung) for rung in (0, 1, RUNGS - 1)] == [2.0, 4.0, 8192.0]


def test_the_rung_that_works_is_learnt() -> None:
    """After probes that fail low and succeed high, the high one is probed first."""
    ladder = Ladder()
    low, high = record(), record()
    low.worked = high.worked = True
    high.rung = 5
    for _ in range(10):
        ladder.learn(True, 0, False)
        ladder.learn(True, 5, True)
    ladder.add(low)
    ladder.add(high)
    best, chance, price = ladder.best(100.0, (), 1.0)
    assert best is high
    assert chance > 0.8
    assert price == 1.0


def test_time_alone_climbs() -> None:
    """A session that nobody probes is on the next rung after that rung's rest."""
    ladder = Ladder()
    one = record()
    ladder.add(one)
    ladder.best(4.5, (), 1.0)
    assert one.rung == 1
    assert ladder.waiting == 1


def test_removed_and_avoided_sessions_are_not_probed() -> None:
    """Neither one that was taken out, nor one the page has failed on, comes up."""
    ladder = Ladder()
    first, second = record(), record()
    ladder.add(first)
    ladder.add(second)
    ladder.remove(first)
    assert ladder.best(2.0, (), 1.0)[0] is second
    assert ladder.best(2.0, (second.session.id,), 1.0)[0] is None
    assert ladder.waiting == 1


def test_a_probe_that_comes_early_costs_more() -> None:
    """At a quarter of its rest it costs four tokens; its odds are those of the rung reached.

    Within the first minute only where nothing works.
    """
    ladder = Ladder()
    one = record()
    one.worked, one.rung = True, 7
    ladder.add(one)
    assert ladder.best(64.0, (), 3.9)[0] is None
    best, _, price = ladder.best(64.0, (), 4.0)
    assert (best, price) == (one, 4.0)
    assert ladder.rested(one, 64.0) == 5
    assert ladder.best(4.0, (), 100.0)[0] is None
    assert ladder.best(4.0, (), math.inf)[0] is one


def test_an_early_probe_is_made_only_where_it_is_likely_to_win_a_page() -> None:
    """64 s early, at a chance of a third and ten seconds a page that are two pages; at a chance of one
    in fifty it is none, and the session is left alone until it has rested."""
    ladder = Ladder()
    one = record()
    one.worked, one.rung = True, 6
    ladder.add(one)
    assert ladder.best(64.0, (), 64.0, pace=0.1)[0] is one
    for _ in range(24):
        ladder.learn(worked=True, rung=5, ok=False)
    assert ladder.best(64.0, (), 64.0, pace=0.1)[0] is None
    assert ladder.best(64.0, (), math.inf, pace=0.1)[0] is one
    assert ladder.best(128.0, (), 1.0, pace=0.1)[0] is one


def test_sessions_that_never_worked_are_no_better_than_new_ones() -> None:
    """Of a list that is banned for good, no rung is worth a try before the list is used up."""
    ladder = Ladder()
    ladder.newcomers = 0.02
    assert max(ladder.chance(False, rung) for rung in range(RUNGS)) == 0.02
    assert ladder.chance(True, 0) > 0.3


def test_a_ban_for_good_is_not_found_out_anew_on_every_rung() -> None:
    """What failed 20 times on each of three rungs is hardly worth a try on the fourth."""
    ladder = Ladder()
    ladder.newcomers = 0.3
    assert ladder.chance(False, 3) == pytest.approx(0.3)
    for rung in range(3):
        for _ in range(20):
            ladder.learn(worked=False, rung=rung, ok=False)
    assert ladder.chance(False, 3) < 0.002
    assert ladder.chance(True, 3) == Ladder().chance(True, 3)


def test_where_nothing_works_the_longest_rested_is_tried() -> None:
    """However little its rung is worth by what was learnt; else all would hang on those just blocked."""
    ladder = Ladder()
    for rung in range(3):
        for _ in range(20):
            ladder.learn(worked=False, rung=rung, ok=False)
    short, long = record(), record()
    short.rung, long.rung = 0, 2
    ladder.add(short)
    ladder.add(long)
    assert ladder.chance(False, 2) < ladder.chance(False, 0)
    assert ladder.best(8.0, (), 100.0)[0] is short
    assert ladder.best(8.0, (), math.inf)[0] is long
    worked = record()
    worked.worked = True
    ladder.add(worked)
    assert ladder.best(8.0, (), math.inf)[0] is worked


def test_one_success_restores_the_hope_of_its_rung() -> None:
    """A ban that ends after minutes is found although shorter rests never helped."""
    ladder = Ladder()
    for rung in range(8):
        for _ in range(20):
            ladder.learn(worked=False, rung=rung, ok=False)
    assert ladder.chance(False, 8) < 1e-6
    ladder.learn(worked=False, rung=8, ok=True)
    assert ladder.chance(False, 8) > 0.3


# -- drought -----------------------------------------------------------------------------------


def test_the_longest_rest_that_was_enough_is_known() -> None:
    """That of sessions that ever worked, until that is long ago."""
    ladder = Ladder()
    ladder.learn(worked=False, rung=6, ok=True)
    assert ladder.proven_rest == math.inf
    for rung in (2, 4, 3):
        ladder.learn(worked=True, rung=rung, ok=True)
    assert ladder.proven_rest == ladder.rest(4)
    for _ in range(30):
        ladder.learn(worked=True, rung=4, ok=False)
    assert ladder.proven_rest == ladder.rest(3)


def test_in_a_drought_tries_become_rarer() -> None:
    """As many as there are slots at once, then ever fewer: not a thousand in an hour."""
    drought = Drought(16)
    tries, at = 0, 0.0
    while at < 3600.0:
        wait = drought.wait(at)
        if wait > 0:
            at += wait
            continue
        if tries < 16:
            assert at == 0.0
        drought.tried(at)
        tries += 1
    assert 400 < tries < 1000


def test_in_a_drought_the_rests_between_a_sessions_tries_double() -> None:
    """A minute into it, only those that have rested for half a minute are tried: where each request
    begins the ban anew, no other rule would let any of them come back."""
    drought, ladder = Drought(8), Ladder()
    drought.passed(100.0, 0.5)
    one = record()
    one.worked, one.failed = True, 140.0
    ladder.add(one)
    assert drought.rest(160.0) == 30.0
    assert ladder.best(160.0, (), math.inf, rest=drought.rest(160.0))[0] is None
    assert ladder.best(180.0, (), math.inf, rest=drought.rest(180.0))[0] is one


def test_rare_successes_are_no_drought() -> None:
    """Where one in a hundred worked, a hundred tries without one are nothing special."""
    drought = Drought(8)
    drought.passed(0.0, 0.01)
    for _ in range(100):
        assert drought.wait(1.0) == 0.0
        drought.tried(1.0)
    drought.passed(0.0, 0.5)
    assert drought.wait(0.0) == 0.0


# -- budget ------------------------------------------------------------------------------------


def test_the_budget_is_bounded() -> None:
    """Waiting for ever pays for two explorations per concurrent request, not more."""
    budget = Budget(concurrency=8)
    budget.earn(1e6)
    assert budget.tokens == 16.0


def test_exploring_does_not_use_up_what_a_ban_may_cost() -> None:
    """Explorations take tokens, and trials of the limit go on all the same; a ban that came of one has
    to be earned as a whole before the next."""
    budget = Budget(concurrency=8)
    budget.earn(1e6)
    budget.tokens = 0.0
    assert budget.dares
    budget.lose(100.0)
    budget.earn(100.0)
    assert not budget.dares
    budget.earn(8.0)
    assert budget.dares


def test_hopeless_explorations_are_dear() -> None:
    """One in a thousand takes a full budget, unless each find has yielded many pages."""
    budget = Budget(8)
    assert budget.price(0.5) == 1.0
    assert budget.price(0.05) == pytest.approx(4.0)
    assert budget.price(0.001) == 16.0
    budget.pages, budget.stints = 3000, 9
    assert budget.price(0.001) == 1.0


def test_the_length_of_bans_is_learnt() -> None:
    """Four sessions out for 600 s each tell about 500 s, those still out included."""
    budget = Budget(8)
    for _ in range(4):
        budget.went_out(0.0)
    for _ in range(4):
        budget.came_back(600.0, lasted=True)
    assert budget.outage == pytest.approx(504.0)


def test_blocks_that_did_not_last_are_no_outages() -> None:
    """Soft blocks leave the expected length as it was, but for their own seconds."""
    budget = Budget(8)
    budget.went_out(0.0)
    budget.came_back(2.0, lasted=False)
    assert budget.outage == pytest.approx(122.0)


# -- choice ------------------------------------------------------------------------------------


def test_faster_sessions_are_preferred(rng: random.Random) -> None:
    """Of 40 sessions the fastest four get most of 400 requests that are answered at once."""
    records = [record(latency=0.5 if i < 4 else 2.0) for i in range(40)]
    made = working(rng, records)
    picks: Counter[bool] = Counter()
    for _ in range(400):
        choice = choose(made)
        assert choice.record is not None
        picks[choice.record in records[:4]] += 1
    assert picks[True] > 320


def test_the_load_is_spread_over_equal_sessions(rng: random.Random) -> None:
    """The search may end early, and still each of 40 alike gets its share of 4000 requests."""
    records = [record() for _ in range(40)]
    made = working(rng, records)
    picks = Counter(id(choose(made).record) for _ in range(4000))
    assert len(picks) == 40
    assert min(picks.values()) > 20


def test_a_session_starts_slowly(rng: random.Random) -> None:
    """One that succeeded once carries two requests, not three."""
    one = record(good=1.0)
    made = working(rng, [one])
    one.session.in_flight = 1
    assert choose(made).record is one
    one.session.in_flight = 2
    assert choose(made).record is None


def test_nobody_goes_over_the_cap(rng: random.Random) -> None:
    """Over the cap it says how long to wait; after that, the session may be used again."""
    limit = Limit()
    limit.cap = 10.0
    one = record(level=11.0)
    made = working(rng, [one])
    choice = choose(made, limit)
    assert choice.record is None
    assert choice.over is one
    assert choose(made, limit, now=choice.wait + 0.01).record is one


def leads(made: WorkingSet, records: list[Record], limit: Limit) -> list[float]:
    """Use the sessions of a short list 100 times at once; return their intensities, highest first."""
    for _ in range(100):
        chosen = choose(made, limit, few=True).record
        if chosen is not None and chosen.meter is not None:
            chosen.meter.use(0.0)
    return sorted((one.meter.level(limit.scale, 0.0) for one in records if one.meter), reverse=True)


def test_one_session_of_a_short_list_goes_ahead(rng: random.Random) -> None:
    """It gets about three times as much as the others, also beyond what is known to be safe; where
    others do not come after it, nobody does."""
    records = [record(good=20.0) for _ in range(10)]
    made = working(rng, records)
    made.latency = 0.1
    limit = Limit()
    limit.safe = 10.0
    first, second, *_ = leads(made, records, limit)
    assert first > 2.0 * second
    assert first > 1.5 * limit.safe
    assert second <= limit.safe + 1.0  # one more use would be beyond
    fewer = [record(good=20.0) for _ in range(3)]
    assert leads(working(rng, fewer), fewer, limit)[0] <= limit.safe + 1.0


def test_no_session_goes_further_ahead_than_the_crawl_would_drive_all(rng: random.Random) -> None:
    """Eight slots and pages of a minute are one page a minute for each of eight sessions; nor over the
    cap."""
    for latency, cap, most in ((60.0, math.inf, 5.0), (0.1, 12.0, 13.0)):
        records = [record(good=20.0) for _ in range(8)]
        made = working(rng, records)
        made.latency = latency
        limit = Limit()
        limit.cap = cap
        assert leads(made, records, limit)[0] <= most


def test_paused_sessions_are_no_candidates(rng: random.Random) -> None:
    """One that cannot take requests stays a working session, but is not chosen."""
    one = record()
    made = working(rng, [one, record()])
    made.pause(one)
    assert one.working
    assert {choose(made).record for _ in range(20)} == {made.members[0]}


# -- new sessions --------------------------------------------------------------------------------


def test_the_next_new_session_may_work_however_many_did_not() -> None:
    """Its chance is never 0, nor when odds that were rounded to 0 are loaded: it is divided by."""
    fresh = Fresh(random.Random(0))
    for _ in range(2000):
        fresh.learn(None, ok=False)
    assert fresh.chance == fresh.seen == 0.001
    fresh.load(json.loads(json.dumps(fresh.dump())))
    assert fresh.chance == 0.001


def test_good_subnets_are_found(rng: random.Random) -> None:
    """Where one of ten subnets works, it soon gets over twice its share."""
    fresh = Fresh(rng)
    groups = [f"10.0.{i}.0/24" for i in range(10)]
    asked: Counter[str] = Counter()
    for i in range(300):
        group = fresh.choose(groups, 0.0)
        assert group is not None
        if i >= 150:
            asked[group] += 1
        fresh.learn(group, group == groups[3])
    assert asked[groups[3]] > 30


def test_no_new_session_goes_where_a_subnet_must_not_be_used(rng: random.Random) -> None:
    """Of two subnets the one that rests gets none; if all do, there is none for now."""
    fresh = Fresh(rng)
    resting = {"10.0.0.0/24"}

    def pause(group: str | None, now: float) -> float:
        return 5.0 if group in resting else 0.0

    both = ["10.0.0.0/24", "10.0.1.0/24"]
    assert {fresh.choose(both, 0.0, pause) for _ in range(30)} <= {both[1], NOWHERE}
    assert fresh.choose(both[:1], 0.0, pause) == NOWHERE
    assert fresh.choose([], 0.0, pause) is None


def test_every_part_survives_a_restart(rng: random.Random) -> None:
    """What each dumps as JSON, another takes back."""
    ladder, budget, fresh = Ladder(), Budget(8), Fresh(rng)
    ladder.learn(True, 3, True)
    budget.pages, budget.stints = 70, 3
    budget.earn(5.0)
    fresh.learn("10.0.0.0/24", False)
    for part, again in ((ladder, Ladder()), (budget, Budget(8)), (fresh, Fresh(rng))):
        saved = json.loads(json.dumps(part.dump()))
        again.load(saved)
        assert again.dump() == saved


@pytest.mark.parametrize("state", [None, 5, [], {}, {"odds": [1]}, [[1], [2]], {"pages": -1}])
def test_damaged_state_changes_nothing(state: object, rng: random.Random) -> None:
    """Each part ignores what it did not write."""
    for part, fresh_part in (
        (Ladder(), Ladder()),
        (Budget(8), Budget(8)),
        (Fresh(rng), Fresh(rng)),
    ):
        part.load(state)
        assert part.dump() == fresh_part.dump()


@pytest.mark.parametrize("tokens", [-50.0, 50.0])
def test_the_budget_of_a_larger_crawl_is_taken_over_as_far_as_it_goes(tokens: float) -> None:
    """Fewer requests at once have smaller bounds; what was counted is kept."""
    budget = Budget(32)
    budget.tokens = budget.nerve = tokens
    budget.pages, budget.stints = 5000, 100
    again = Budget(8)
    again.load(json.loads(json.dumps(budget.dump())))
    assert again.tokens == math.copysign(2.0 * 8, tokens)
    assert again.nerve == min(tokens, 2.0 * 8)
    assert (again.pages, again.stints) == (5000, 100)
