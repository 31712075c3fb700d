"""Intensity, hazard and the learnt limit."""

from __future__ import annotations

import json
import math

import pytest

from scrapy_session_filter.policies.adaptive.hazard import CALM, DECAY, REFIT, HazardTable
from scrapy_session_filter.policies.adaptive.intensity import (
    BINS,
    COUNTING,
    USUAL,
    WINDOWS,
    Meter,
    bin_of,
    level_of,
)
from scrapy_session_filter.policies.adaptive.limit import EVIDENCE, KEEP_EVIDENCE, Limit
from scrapy_session_filter.policies.adaptive.trials import PROOF


def ramp(limit: Limit, *, allowed: float, window: float, sessions: int = 20) -> None:
    """Use sessions one after another at a growing rate; over ``allowed`` per window they are
    blocked for long (a new one takes their place)."""
    scale = WINDOWS.index(window)
    meters = [Meter(0.0) for _ in range(sessions)]
    now, gap = 0.0, 2.0 * window / allowed
    while now < 20 * window:
        for i in range(sessions):
            if meters[i].level(limit.scale, now) > limit.cap:
                continue
            level = meters[i].use(now)
            if level[scale] > allowed:
                limit.blocked(level, now)
                meters[i] = Meter(now)
            else:
                limit.passed(level, now)
        now += gap
        gap = max(gap * 0.97, 0.4 * window / allowed)


def test_a_steady_rate_has_its_number_per_window_as_intensity() -> None:
    """One request a second is 60 on the minute's scale, and 10 on that of 10 s."""
    meter = Meter(0.0)
    for second in range(2000):
        levels = meter.use(float(second))
    assert levels[USUAL] == pytest.approx(60, rel=0.02)
    assert levels[0] == pytest.approx(10, rel=0.06)
    assert levels[-len(COUNTING) :] == pytest.approx(COUNTING, abs=1.1)


def test_a_burst_counts_fully_on_every_scale() -> None:
    """Ten requests at once are an intensity of ten, whatever the window."""
    meter = Meter(0.0)
    for _ in range(10):
        levels = meter.use(0.0)
    assert levels == (10.0,) * len(WINDOWS)


def test_bins_are_eighths_of_octaves() -> None:
    """Each bin begins where it says, and all intensities have one."""
    for index in range(BINS):
        assert bin_of(level_of(index) * 1.01) == index
    assert bin_of(0.0) == 0
    assert bin_of(1e9) == BINS - 1


def test_blocks_above_an_intensity_are_told_from_blocks_anywhere() -> None:
    """The same number of blocks is evidence when they lie at the top, and none when spread out."""
    top, spread = HazardTable(), HazardTable()
    for i in range(400):
        levels = (2.0 + i % 20,) * len(WINDOWS)
        for table, blocked in ((top, i % 20 > 17 and i % 40 > 20), (spread, i % 21 == 0)):
            (table.blocked if blocked else table.passed)(levels)
    assert top.split(USUAL)[0] > 20
    assert spread.split(USUAL)[0] < 4


def test_in_calm_times_the_counts_are_thinner_and_as_large() -> None:
    """Long after the last block a bin's hazard is what it would be if every use were counted."""
    table = HazardTable()
    levels = (10.0,) * len(WINDOWS)
    refits = sum(table.passed(levels) for _ in range(CALM))
    assert sum(table.passed(levels) for _ in range(CALM)) < 0.3 * refits
    table.blocked(levels)
    table.fit(USUAL)
    uses = sum(DECAY ** (age // (4 * REFIT)) for age in range(2 * CALM))
    assert table.hazard[bin_of(10.0)] == pytest.approx(1.5 / uses, rel=0.05)


def test_what_is_known_above_the_intensities_in_use_does_not_fade() -> None:
    """Under a cap that holds, nobody sees the blocks over it again: its evidence must not wear off."""
    table = HazardTable()
    for use in range(400):
        high = use % 20 == 0
        levels = (20.0 if high else 5.0,) * len(WINDOWS)
        (table.blocked if high else table.passed)(levels)
    for _ in range(4 * REFIT):  # with these, what came before fades once more
        table.passed((5.0,) * len(WINDOWS))
    before, blocks = table.split(USUAL)[0], sum(table.blocks[USUAL])
    for _ in range(200 * REFIT):
        table.passed((5.0,) * len(WINDOWS))
    assert sum(table.blocks[USUAL]) == blocks
    assert table.split(USUAL)[0] > before
    for _ in range(50 * REFIT):
        table.passed((20.0,) * len(WINDOWS))
    assert sum(table.blocks[USUAL]) < 0.9 * blocks, "they are seen again now, and pass"


def test_no_limit_is_invented_without_blocks() -> None:
    """Successes alone leave the cap open, and raise what is known to be safe."""
    limit = Limit()
    meter = Meter(0.0)
    for i in range(500):
        levels = meter.use(float(i))
        limit.passed(levels, float(i))
    assert limit.cap == math.inf
    assert not limit.depends
    assert limit.safe > 40


@pytest.mark.parametrize("window", [10.0, 30.0, 60.0])
def test_the_allowed_rate_is_learnt_whatever_the_window(window: float) -> None:
    """20 requests per window are allowed, and what the cap allows in the end is near that rate."""
    limit = Limit()
    ramp(limit, allowed=20, window=window)
    assert limit.depends
    allowed = limit.cap / limit.window
    assert 0.5 * 20 / window < allowed < 1.5 * 20 / window


def test_a_cap_without_evidence_goes_quickly() -> None:
    """Where blocks no longer depend on intensity, the cap grows by half every 5 s, however often met."""
    limit = Limit()
    limit.cap, limit.edge, limit.met = 3.0, 3.0, 5
    assert not limit.depends
    for now in range(100, 130):
        limit.passed((0.9 * limit.cap,) * len(WINDOWS), float(now))
    assert limit.cap > 3.0 * 1.5**4


def test_an_edge_without_evidence_does_not_hide_the_true_one() -> None:
    """Once such a cap has gone, the limit is found anew, however far below the old cap it lies."""
    limit = Limit()
    limit.cap = limit.edge = 40.0
    for now in range(100, 200):
        limit.passed((min(0.9 * limit.cap, 60.0),) * len(WINDOWS), float(now))
    assert limit.cap == math.inf
    ramp(limit, allowed=20, window=60.0)
    assert 0.5 * 20 / 60 < limit.cap / limit.window < 1.5 * 20 / 60


def test_a_known_cap_is_raised_no_sooner_than_patience_allows() -> None:
    """Where bans are dear, it stays longer; without evidence for it, it goes as quickly as ever."""
    caps = []
    for patience in (0.0, 500.0):
        limit = Limit()
        ramp(limit, allowed=20, window=60.0)
        limit.patience = patience
        for now in (3000.0, 3200.0, 3400.0):
            limit.passed((limit.cap,) * len(WINDOWS), now)
        caps.append(limit.cap)
    assert caps[0] > caps[1]
    limit = Limit()
    limit.cap, limit.edge, limit.patience = 3.0, 3.0, 500.0
    for now in range(100, 130):
        limit.passed((0.9 * limit.cap,) * len(WINDOWS), float(now))
    assert limit.cap > 4.5


def test_patience_ends_with_the_evidence() -> None:
    """A cap that was to stay for long is let go within seconds when nothing speaks for it any more."""
    limit = Limit()
    ramp(limit, allowed=20, window=60.0)
    limit.patience = 1e6
    limit.passed((limit.cap,) * len(WINDOWS), 3000.0)
    limit.table = HazardTable()
    for second in range(3001, 3101):
        limit.passed((min(limit.cap, 60.0),) * len(WINDOWS), float(second))
    assert not limit.depends
    assert limit.cap == math.inf


def test_a_raise_waits_for_the_patience_of_now() -> None:
    """A cap that was lowered when hardly a session was left is raised once all are back."""
    limit = Limit()
    limit.patience = 1000.0
    limit.blocked((20.0,) * len(WINDOWS), 0.0, retry_after=60.0)
    before = limit.cap
    limit.passed((limit.cap,) * len(WINDOWS), 100.0)
    assert limit.cap == before
    limit.patience = 0.0
    limit.passed((limit.cap,) * len(WINDOWS), 101.0)
    assert limit.cap > before


def test_under_a_cap_nothing_is_safe_where_nobody_was() -> None:
    """Three scouts that passed make their intensity safe, and no more: the others go there at once.

    Before there is a cap, a quarter more is safe.
    """
    limit = Limit()
    limit.safe = 20.0
    for now in range(3):
        limit.passed((19.0,) * len(WINDOWS), float(now))
    assert limit.safe == 25.0
    limit.cap = 40.0
    for now in range(3):
        limit.passed((26.0,) * len(WINDOWS), float(now))
    assert limit.safe == 26.0


def test_what_was_sent_before_a_block_does_not_make_it_safe_again() -> None:
    """After the cap was lowered, only requests that were sent since say what is safe."""
    limit = Limit()
    limit.blocked((20.0,) * len(WINDOWS), 10.0, retry_after=60.0)
    safe = limit.safe
    for _ in range(9):
        limit.passed((18.0,) * len(WINDOWS), 11.0, sent=9.5)
    assert limit.safe == safe == 16.0
    for _ in range(3):
        limit.passed((18.0,) * len(WINDOWS), 11.0, sent=10.5)
    assert limit.safe == 18.0


def test_a_block_that_was_gone_at_once_is_taken_back() -> None:
    """Cap and evidence are what they were before a soft block."""
    limit = Limit()
    ramp(limit, allowed=30, window=60.0)
    limit.cap = before = 36.0
    levels = (34.0,) * len(WINDOWS)
    limit.blocked(levels, 10_000.0)
    assert limit.cap < before
    limit.cleared(levels, 10_001.0)
    assert limit.cap == before


def test_retry_after_needs_no_statistics() -> None:
    """The first 429 sets a cap below the intensity that met it."""
    limit = Limit()
    levels = (20.0,) * len(WINDOWS)
    limit.blocked(levels, 0.0, retry_after=10.0)
    assert limit.cap == pytest.approx(17.0)


def test_only_a_few_scouts_go_beyond_what_is_safe() -> None:
    """Four at once; in a short list that is used up, one in eight sessions."""
    limit = Limit()
    limit.scouting = 3
    assert limit.scouts_left(16, scarce=False)
    assert not limit.scouts_left(16, scarce=True)
    limit.scouting = 4
    assert not limit.scouts_left(100, scarce=False)


def test_the_limit_survives_a_restart() -> None:
    """What is dumped as JSON and loaded has the same cap on the same scale, for the same reason."""
    limit = Limit()
    ramp(limit, allowed=30, window=60.0)
    again = Limit()
    again.load(json.loads(json.dumps(limit.dump())))
    assert again.cap == pytest.approx(limit.cap, abs=0.01)
    assert again.scale == limit.scale
    assert again.edge == pytest.approx(limit.edge, abs=0.01)
    assert again.gain == pytest.approx(limit.table.split(limit.scale)[0], abs=0.1)


@pytest.mark.parametrize(
    "state", [None, [], {"scale": 99}, {"scale": 0, "cap": "x", "table": [1, 2]}, {"cap": -5}]
)
def test_damaged_state_is_ignored(state: object) -> None:
    """Nothing that is not in its range gets in."""
    limit = Limit()
    limit.load(state)
    assert limit.cap == math.inf


def test_a_counting_scale_forgets_when_the_window_is_over() -> None:
    """Ten uses at once count fully for a window, less and less in the next, and then no more."""
    scale = WINDOWS.index(COUNTING[0], len(WINDOWS) - len(COUNTING))
    meter = Meter(0.0)
    for _ in range(10):
        meter.use(0.0)
    told = [round(meter.level(scale, now) - 1.0, 6) for now in (0.0, 9.9, 12.5, 15.0, 25.0)]
    assert told == [10, 10, 7.5, 5, 0]
    assert meter.wait(scale, 0.0, 6.0) == pytest.approx(15.0)
    assert meter.wait(scale, 12.5, 6.0) == pytest.approx(2.5)
    assert meter.wait(scale, 12.5, 9.0) == 0.0


@pytest.mark.parametrize("scale", range(len(WINDOWS)))
def test_after_the_wait_one_more_use_is_within(scale: int) -> None:
    """What `wait` says is enough, and no more than enough, on every scale."""
    meter = Meter(0.0)
    now = 0.0
    for use in range(30):
        now += WINDOWS[scale] * (0.01 + 0.002 * (use % 7))
        meter.use(now)
    due = now + meter.wait(scale, now, 12.0)
    assert due > now
    assert meter.level(scale, due + 1e-6) <= 12.0 + 1e-6
    assert meter.level(scale, due - 0.02 * WINDOWS[scale]) > 12.0


def tried(limit: Limit, blocked: int) -> int:
    """Use 20 sessions 20 times at once, block two of them, try the others later; how many trials?"""
    now, meters = 0.0, [Meter(0.0) for _ in range(20)]
    for meter in meters:
        for _ in range(20):
            limit.passed(meter.use(now), now)
    for meter in meters[:2]:
        limit.blocked(meter.use(now), now)
    assert limit.depends
    assert limit.window == 60.0
    assert limit.trials.scale >= 0
    now, trials = 19.0, 0
    for meter in meters[2:]:
        for _ in range(15):
            if not limit.trials.may_begin(now):
                return trials
            assert meter.level(limit.trials.scale, now) <= limit.trials.cap
            levels, trials = meter.use(now), trials + 1
            if trials > blocked:
                limit.passed(levels, now)
                limit.trial_passed(levels, now)
            else:
                limit.trial_blocked(levels, now)
    return trials


def test_a_shorter_window_is_proven_by_trials() -> None:
    """What passes over the long window's limit, again and again, proves a shorter window."""
    limit = Limit()
    assert PROOF <= tried(limit, blocked=0) < 3 * PROOF
    assert limit.window == 10.0
    assert 15 < limit.cap < 20


def test_a_block_that_comes_anyway_does_not_end_the_trials() -> None:
    """A session that was idle for a while is blocked, and the cap is lowered: how hard it was used on
    the short scale says nothing of the limit there. Trials aim at what separates blocks from passes.
    """
    limit = Limit()
    meters = [Meter(0.0) for _ in range(60)]
    for meter in meters:
        for _ in range(3):
            limit.passed(meter.use(0.0), 0.0)
    for _ in range(3):
        limit.blocked(Meter(0.0).use(0.0), 0.0)
    for meter in meters[:8]:
        limit.blocked(meter.use(0.0), 0.0)
    assert limit.window == 60.0
    assert 2.5 < limit.trials.cap < 4.0
    meters[8].use(20.0)
    levels = meters[8].use(30.0)
    limit.blocked(levels, 30.0)
    assert limit.edge == levels[limit.scale], "that block made the cap"
    assert levels[limit.trials.scale] == 2.0
    assert 2.5 < limit.trials.cap < 4.0


def test_a_trial_that_fails_is_not_repeated_at_once() -> None:
    """One block ends the trials for a while, and the long window stays."""
    limit = Limit()
    assert tried(limit, blocked=1) == 1
    assert limit.window == 60.0
    assert not limit.trials.may_begin(20.0)
    assert limit.trials.may_begin(40.0)


def test_the_cap_does_not_grow_into_a_wall() -> None:
    """Where hardly any use passed, none is sent again; a few blocks among many uses are no wall."""
    table = HazardTable()
    for _ in range(3):
        table.blocked((8.0,) * len(WINDOWS))
    assert table.is_wall(USUAL, 8.0)
    assert not table.is_wall(USUAL, 9.5)
    for _ in range(4):
        table.passed((9.5,) * len(WINDOWS))
    assert not table.is_wall(USUAL, 8.0)


@pytest.mark.parametrize("told", [None, 5.0])
def test_a_wall_holds_only_where_it_bans(told: float | None) -> None:
    """Where the site says itself that it was too fast, the cap is raised: that costs a page, no ban."""
    limit = Limit()
    for _ in range(300):
        limit.passed((5.0,) * len(WINDOWS), 0.0)
    for now in range(30):
        limit.blocked((24.0,) * len(WINDOWS), float(now), retry_after=told)
    before = limit.cap
    for now in range(100, 160):
        limit.passed((0.9 * before,) * len(WINDOWS), float(now))
    assert (limit.cap > before) is (told is not None)


def test_what_a_site_asked_for_is_known_after_a_restart() -> None:
    """For how long to rest, after a 429."""
    limit = Limit()
    limit.blocked((20.0,) * len(WINDOWS), 0.0, retry_after=10.0)
    again = Limit()
    again.load(json.loads(json.dumps(limit.dump())))
    assert again.is_told
    assert again.dump() == limit.dump()


@pytest.mark.parametrize("known", [True, False])
def test_evidence_that_was_enough_is_enough_after_a_restart(known: bool) -> None:
    """What is between the two bounds keeps a limit that is known, and makes none."""
    limit = Limit()
    for use in range(400):
        limit.table.passed((1.0 + use % 8,) * len(WINDOWS))
    limit.table.blocked((12.0,) * len(WINDOWS))
    while limit.table.split(limit.scale)[0] >= EVIDENCE:
        limit.table.passed((12.0,) * len(WINDOWS))
    limit.depends = known
    again = Limit()
    again.load(json.loads(json.dumps(limit.dump())))
    assert KEEP_EVIDENCE < again.gain < EVIDENCE
    assert again.depends is known
