"""When a whole site fails for a while, no session pays for it."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.crawls.scenery import assert_clean, stat, through, urls

if TYPE_CHECKING:
    from loopback import World

    from tests.world.crawls import Crawler


@pytest.mark.parametrize("answer", ["unavailable", "forbidden"])
def test_an_outage_costs_a_handful_of_sessions(world: World, crawl: Crawler, answer: str) -> None:
    """All answers fail for some seconds: few sessions go, and every page comes in the end."""
    outage: list[float] = []

    def fails(visit: object) -> str | None:
        return answer if outage and time.monotonic() < outage[0] else None

    world.site.on("/page/*", {"like": "ok", "delay": 0.05})
    world.site.on("/page/*", fails)
    pages = urls(world, 300)
    settings = through(world, POLICY="round-robin", MAX_SESSIONS=30, RETRY_TIMES=50)
    running = crawl.start(pages, settings)
    while len(running.items()) < 120 and running.process.poll() is None:
        time.sleep(0.01)
    outage.append(time.monotonic() + 2)
    result = running.wait()
    assert result.exit_code == 0
    got = Counter(item["url"] for item in result.items if "status" in item)
    assert max(got.values()) == 1
    if answer == "forbidden":
        assert_clean(world, result)
        assert set(got) == set(pages)
        assert stat(result, "gave_up") == 0
    in_flight = 16  # requests that may be sent before the first answer says that all fails
    assert stat(result, "sessions/retired") <= in_flight + 4 < 30
