"""Adaptive, at sites that limit the rate of each address: all pages come, and nobody is held up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from typing import TYPE_CHECKING

import pytest
from loopback import redis_server

from tests.crawls.scenery import assert_clean, stat, through, urls
from tests.stores.servers import Server
from tests.world.crawls import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback import Visit, World

    from tests.world.crawls import Crawler


class RateLimit:
    """A host's limit per exit: more than ``most`` requests in ``window`` seconds are refused."""

    def __init__(self, world: World, host: str, most: int, window: float) -> None:
        self._most, self._window = most, window
        self._seen: dict[str, deque[float]] = defaultdict(deque)
        world.site.on("/page/*", self._answer, host=host)

    def _answer(self, visit: Visit) -> str | None:
        seen = self._seen[visit.exit]
        while seen and seen[0] < visit.time - self._window:
            seen.popleft()
        seen.append(visit.time)
        return "forbidden" if len(seen) > self._most else None


def test_each_site_at_its_own_pace(world: World, crawl: Crawler) -> None:
    """One site allows each exit 5 requests per 4 s, the other any number: it is done long before."""
    world.site.on("/page/*", {"like": "ok", "delay": 0.02})
    RateLimit(world, "slow.example", 5, 4.0)
    slow = urls(world, 200, host="slow.example")
    fast = urls(world, 200, host="fast.example")
    result = crawl(
        [page for pair in zip(slow, fast, strict=True) for page in pair],
        through(world, POLICY="adaptive", PROXIES=world.proxies(), LOG_LEVEL="INFO"),
        timeout=120,
    )
    assert_clean(world, result)
    assert Counter(item["url"] for item in result.items) == Counter(slow + fast)
    last = {v.host: v.time for v in world.site.visits}
    first = world.site.visits[0].time
    assert last["fast.example"] - first < 0.9 * (last["slow.example"] - first)
    to_slow = [v for v in world.site.visits if v.host == "slow.example"]
    assert len(to_slow) < 1.8 * len(slow)


@pytest.fixture
def queue_server(tmp_path: Path) -> Iterator[Server]:
    """A Redis server for the URLs."""
    redis_server.binary()
    server = Server(tmp_path)
    yield server
    server.end()


def test_nothing_is_lost_with_a_scheduler_of_ones_own(
    world: World, crawl: Crawler, queue_server: Server
) -> None:
    """Under scrapy-redis requests wait for a bounded time and go back to Redis; all come out."""
    pytest.importorskip("scrapy_redis")
    world.site.on("/page/*", {"like": "ok", "delay": 0.02})
    RateLimit(world, "shop.example", 8, 3.0)
    pages = urls(world, 150)
    settings = through(
        world,
        POLICY="adaptive",
        PROXIES=world.proxies(world.exits[:8]),
        WAIT_TIMEOUT=0.5,
        SCHEDULER="scrapy_redis.scheduler.Scheduler",
        DUPEFILTER_CLASS="scrapy_redis.dupefilter.RFPDupeFilter",
        REDIS_URL=queue_server.uri,
    )
    result = crawl(pages, settings, timeout=120)
    assert_clean(world, result)
    assert Counter(item["url"] for item in result.items) == Counter(pages)
    assert stat(result, "given_back") > 0
    assert result.stats["watch/waiting"] == 0
    assert not [key for key in queue_server.client.keys() if b":requests" in key]  # noqa: SIM118


def test_a_paced_job_is_paused_and_resumed(world: World, crawl: Crawler) -> None:
    """Stopped while its sessions wait for the limit, a job delivers every page once, and remembers."""
    world.site.on("/page/*", {"like": "ok", "delay": 0.02})
    RateLimit(world, "shop.example", 8, 3.0)
    pages = urls(world, 160)
    settings = through(
        world,
        POLICY="adaptive",
        PROXIES=world.proxies(world.exits[:8]),
        STORE="sqlite:",
        JOBDIR="job",
    )
    running = crawl.start(pages, settings)
    while len(running.items()) < 80 and running.process.poll() is None:
        time.sleep(0.02)
    running.interrupt()
    first = running.wait()
    assert first.reason == "shutdown", first.log[-3000:]
    second = crawl(pages, settings, timeout=120)
    assert_clean(world, second)
    assert Counter(i["url"] for i in first.items + second.items) == Counter(pages)
    assert stat(second, "sessions/restored") == 8
    told = subprocess.run(
        [sys.executable, "-m", "scrapy", "sessions", "show", "shop.example"],
        cwd=crawl.folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(crawl.folder), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "of 8 sessions work" in told
    assert "requests per" in told  # the limit, or what is safe where it was not met
    assert told.splitlines()[-1].split(":")[0] in second.log  # the log says it as well
