"""One 429 without a reason: what it costs the others, in a simulated crawl of a site without a limit."""

from __future__ import annotations

import heapq
import random
from itertools import count
from typing import TYPE_CHECKING

import pytest

from benchmarks.arena import Pool
from benchmarks.contender import Product
from benchmarks.worlds import Cfg, World
from scrapy_session_filter.verdict import OK

from .conftest import throttled

if TYPE_CHECKING:
    from scrapy_session_filter.session import Lease
    from scrapy_session_filter.verdict import Verdict

SPURIOUS = throttled(60.0)
LATENCY = 0.8


def pages_by_second(sessions: int, at_once: int, spurious_at: float, until: int) -> list[int]:
    """Pages that came in each second, with one 429 for a session that had worked."""
    rng = random.Random(3)
    config = Cfg(n=sessions, C=at_once)
    product = Product(Pool(World(config, 3)), random.Random(4))
    pages = [0] * until
    used: set[float] = set()
    order = count()
    due: list[tuple[float, int, tuple[Lease, Verdict, float] | None]] = []
    for _ in range(at_once):
        heapq.heappush(due, (0.0, next(order), None))
    while due[0][0] < until:
        now, _, answer = heapq.heappop(due)
        if answer is not None:
            tag, verdict, sent = answer
            product.now = now
            product.pools[0].report(tag, verdict, sent=sent, latency=now - sent)
            pages[int(now)] += verdict is OK
        sid = product.pick(now, 0, 0)
        if sid < 0:
            heapq.heappush(due, (now - sid, next(order), None))
            continue
        verdict = OK
        if now >= spurious_at and sid in used:
            verdict, spurious_at = SPURIOUS, float("inf")
        used.add(sid)
        latency = LATENCY * rng.lognormvariate(0.0, 0.3)
        heapq.heappush(due, (now + latency, next(order), (product.tag, verdict, now)))
    return pages


@pytest.mark.parametrize(("sessions", "at_once"), [(4, 8), (20, 32), (50, 16)])
def test_one_spurious_429_is_forgotten_within_a_minute(sessions: int, at_once: int) -> None:
    """A minute after it, the crawl is as quick as if it had not been; it never stands still for long."""
    at = 4
    calm = pages_by_second(sessions, at_once, float("inf"), at + 90)
    told = pages_by_second(sessions, at_once, float(at), at + 90)
    assert sum(told) < sum(calm)  # it was met
    assert sum(told[at + 60 :]) > 0.8 * sum(calm[at + 60 :])
    assert sum(told) > 0.5 * sum(calm)
