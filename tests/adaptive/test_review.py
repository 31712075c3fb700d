"""A cap that is too high for what its bans cost is lowered; blocks that follow it are not chased."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.adaptive.hazard import HazardTable
from scrapy_session_filter.policies.adaptive.intensity import USUAL, WINDOWS
from scrapy_session_filter.policies.adaptive.limit import LEAST_CAP, Limit
from scrapy_session_filter.policies.adaptive.review import Review
from scrapy_session_filter.policies.base import Decision, PolicyContext

from .conftest import BLOCKED, Driver

if TYPE_CHECKING:
    import random

HOUR = 3600.0


def count(table: HazardTable, level: float, uses: int, blocks: int) -> None:
    """Count uses at one intensity, of which some were blocked."""
    for use in range(uses):
        (table.blocked if use < blocks else table.passed)((level,) * len(WINDOWS))


def sloping(low: int = 2, high: int = 18) -> HazardTable:
    """1 % of soft blocks at 2 and 4 uses per window, 7 % at 6, 80 % from 9 on."""
    table = HazardTable()
    for level, uses, blocks in ((2.0, 100, 1), (4.0, 200, low), (6.0, 240, high), (9.0, 10, 8)):
        count(table, level, uses, blocks)
    return table


def review(table: HazardTable, cap: float = 7.0, outage: float = 300.0) -> float:
    return Review().lower(table, USUAL, 60.0, cap, outage)


def test_the_cap_goes_to_where_bans_begin_under_it() -> None:
    """The cap of 7 was made by the blocks at 9; those at 6 say that it is too high."""
    assert 4.0 < review(sloping()) < 6.0


def test_a_few_blocks_prove_nothing() -> None:
    """Three of 24 uses at the cap and none of 40 below may be chance."""
    table = HazardTable()
    for level, uses, blocks in ((2.0, 20, 0), (4.0, 20, 0), (6.0, 24, 3), (9.0, 10, 8)):
        count(table, level, uses, blocks)
    assert review(table) == 7.0
    count(table, 4.0, 40, 0)
    count(table, 6.0, 48, 6)
    assert review(table) < 6.0


def test_blocks_at_any_intensity_are_no_reason() -> None:
    """Where they are as frequent below, a lower cap would only be slower."""
    assert review(sloping(low=10)) == 7.0


def test_a_short_ban_is_cheaper_than_a_lower_cap() -> None:
    """A session that is back in 5 s fetches more pages under the higher one."""
    assert review(sloping(), outage=5.0) == 7.0
    assert review(sloping(), outage=300.0) < 7.0


def test_blocks_that_follow_the_cap_lower_it_once() -> None:
    """Bans that come with time are met at the usual intensity, whatever that is."""
    looked, table = Review(), sloping()
    lower = looked.lower(table, USUAL, 60.0, 7.0, 300.0)
    assert lower < 7.0
    count(table, 0.9 * lower, 300, 30)
    assert table.split(USUAL)[0] > 6
    assert looked.lower(table, USUAL, 60.0, lower, 300.0) == lower
    assert review(table, cap=lower) < lower  # nobody else would know


def test_a_cap_that_has_regrown_is_lowered_again() -> None:
    """Time has raised it, and the blocks are still there."""
    looked, table = Review(), sloping()
    lower = looked.lower(table, USUAL, 60.0, 7.0, 300.0)
    assert looked.lower(table, USUAL, 60.0, 6.9, 300.0) == lower


@pytest.mark.parametrize(("outage", "retry_after"), [(HOUR, None), (0.0, None), (HOUR, 60.0)])
def test_a_limit_looks_again_where_a_banned_session_is_missing(
    outage: float, retry_after: float | None
) -> None:
    """Not where that is not known, nor for a block that says itself for how long it lasts."""
    limit = Limit()
    limit.table = sloping()
    limit.cap = limit.edge = 7.0
    # no cut: what blocks here is half the cap, and no more frequent than below
    limit.blocked((3.0,) * len(WINDOWS), 100.0, retry_after=retry_after, outage=outage)
    looked = outage > 0 and retry_after is None
    assert (limit.cap < 7.0) is looked
    assert limit.cap >= LEAST_CAP
    if looked:
        limit.cap = 7.0
        limit.blocked((3.0,) * len(WINDOWS), 101.0, outage=outage)
        assert limit.cap == 7.0, "a burst counts once"


@pytest.mark.parametrize(("gateway", "chance"), [(False, 0.5), (True, 0.5), (True, 0.002)])
def test_at_a_gateway_a_session_is_missing_until_another_is_found(
    rng: random.Random, gateway: bool, chance: float
) -> None:
    """So the cap stays where every other new one works, and not where they are rare."""
    driver = Driver(AdaptivePolicy(PolicyContext(rng=rng, concurrency=8, gateway=gateway)))
    limit = driver.policy.limit
    limit.table = sloping()
    limit.cap = limit.edge = 7.0
    (session,) = driver.working(1)
    driver.policy.fresh.chance = chance
    driver.report(driver.lease(1.0, Decision.use(session, "test")), BLOCKED, 1.0)
    assert (limit.cap == 7.0) is (gateway and chance == 0.5)
