"""A real crawl and its state file: full disks, impossible places, damage."""

from __future__ import annotations

import random
import resource
import stat as modes
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.crawls.scenery import assert_clean, stat, through, urls
from tests.faults.test_ends import saved_rows, until

if TYPE_CHECKING:
    from loopback import World

    from tests.world.crawls import Crawler

STORE = "sqlite:sessions.sqlite"


@pytest.mark.skipif(sys.platform != "linux", reason="sets the limits of another process")
def test_a_full_disk_stops_no_crawl(world: World, crawl: Crawler) -> None:
    """Without room the crawl goes on and says so once; with room again everything is saved."""
    room = 120_000  # for the log and the items as well, but they stay short
    for letter in "abcdefghijkl":  # a session's cookies fill its row
        cookies = {"Set-Cookie": f"{letter}={'x' * 3900}; Path=/"}
        world.site.on(f"/page/{letter}*", {"like": "ok", "delay": 0.05, "headers": cookies})
    pages = [world.url(f"/page/{'abcdefghijkl'[n % 12]}{n}") for n in range(1500)]
    settings = through(
        world, STORE=STORE, POLICY="round-robin", SAVE_INTERVAL=0.2, LOG_LEVEL="INFO",
        PROXIES=world.proxies(world.exits[:6]), CONCURRENT_REQUESTS=4,
    )  # fmt: skip
    running = crawl.start(pages, settings)
    until(running, lambda: world.site.visit_count > 0)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    until(running, lambda: "cannot be saved" in running.log())
    saved, seen = (crawl.folder / "sessions.sqlite").stat().st_size, world.site.visit_count
    until(running, lambda: world.site.visit_count > seen + 60)
    assert (crawl.folder / "sessions.sqlite").stat().st_size == saved <= room
    assert running.log().count("cannot be saved") == 1
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, unlimited)
    until(running, lambda: "can be written again" in running.log())
    running.interrupt()
    result = running.wait()
    assert "Traceback" not in result.log
    rows = saved_rows(crawl)
    assert len(rows) == 6
    assert sum(row["oks"] for row in rows) == len(result.items) == world.site.visit_count
    assert not world.site.direct_visits


@pytest.mark.parametrize(
    "store", ["sqlite:/proc/nowhere/s.sqlite", "sqlite:folder", "sqlite:/dev/null"]
)
def test_an_impossible_place_ends_the_crawl(world: World, crawl: Crawler, store: str) -> None:
    """Where no state can be written nothing is requested, and the log names the setting."""
    (crawl.folder / "folder").mkdir()
    result = crawl([world.direct_url("/page/1")], through(world, STORE=store))
    assert result.exit_code != 0
    assert "ConfigurationError: SESSION_FILTER_STORE" in result.log
    assert not world.site.visits
    assert not world.proxy.passages


def flip(data: bytearray) -> None:
    data[data.index(b'"User-Agent"') + 40] ^= 16


def truncate(data: bytearray) -> None:
    del data[len(data) * 2 // 3 :]


def empty(data: bytearray) -> None:
    data.clear()


def scribble(data: bytearray) -> None:
    data[:] = random.Random(1).randbytes(5000)


def test_a_damaged_file_stops_no_crawl(world: World, crawl: Crawler) -> None:
    """The crawl starts by itself, says once what happened, keeps the damaged copy to itself."""
    settings = through(world, STORE=STORE, POLICY="round-robin", PROXIES=world.proxies())
    for _ in range(2):  # the second start makes the backup
        assert_clean(world, crawl(urls(world, 32), settings))
    before = {row["id"]: row["headers"] for row in saved_rows(crawl)}
    assert len(before) == 16
    path = crawl.folder / "sessions.sqlite"
    for damage in (flip, truncate, empty, scribble):
        data = bytearray(path.read_bytes())
        damage(data)
        path.write_bytes(data)
        result = crawl(urls(world, 32), settings)
        assert_clean(world, result)
        assert len(result.pages) == 32
        assert result.log.count("was damaged") == 1
        assert stat(result, "sessions/restored") >= 15
        after = {row["id"]: row["headers"] for row in saved_rows(crawl)}
        assert all(after[id_] == headers for id_, headers in before.items() if id_ in after)
        kept = list(crawl.folder.glob("*.corrupt-*"))
        assert bytes(data) in [path.read_bytes() for path in kept]
        assert {modes.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
        before = after


CLOCK = """
import time

import scrapy

REAL = time.time
OFFSET = [{offset!r}]
time.time = lambda: REAL() + OFFSET[0]


class Clock(scrapy.Spider):
    name = "clock"
    done = 0

    async def start(self):
        for url in self.settings["URLS"]:
            yield scrapy.Request(url)

    def parse(self, response):
        self.done += 1
        if self.done == {jump_at!r}:
            OFFSET[0] += {jump!r}
        yield {{"url": response.url, "status": response.status}}
"""
HOUR, YEAR = 3600.0, 365 * 86400.0
TO_1970 = -time.time() + 100.0


def clock(offset: float = 0.0, jump_at: int = 0, jump: float = 0.0) -> str:
    """Return a spider in whose process the wall clock is off, and may jump at a page."""
    return CLOCK.format(offset=offset, jump_at=jump_at, jump=jump)


def test_a_clock_that_was_set_between_two_runs(world: World, crawl: Crawler) -> None:
    """Set back, it makes nobody older and no rest longer; set a year on, sessions have expired."""
    rest = {"like": "too-many", "headers": {"Retry-After": "2"}}
    world.site.on("/page/*", rest, exits=world.exits[:1], times=2)
    proxies = world.proxies(world.exits[:6])
    settings = through(
        world, STORE=STORE, POLICY="round-robin", PROXIES=proxies, WAIT_TIMEOUT=0.3,
        URLS=urls(world, 30),
    )  # fmt: skip
    # each run finds a file from the future, but for the last, for which it is long ago
    for offset, expected in ((YEAR, {0}), (0.0, {6}), (TO_1970, {6}), (0.0, {0, 1})):
        result = crawl(clock(offset), settings)
        assert_clean(world, result)
        assert len(result.pages) == 30
        restored = stat(result, "sessions/restored")
        assert restored in expected  # one that rested all the time keeps the times it had
        assert stat(result, "sessions/created") == 6 - restored


@pytest.mark.parametrize("jump", [-YEAR, HOUR])
def test_a_clock_that_is_set_in_the_middle(world: World, crawl: Crawler, jump: float) -> None:
    """Nobody expires, no rest ends or lengthens, and what is saved is right by the new clock."""
    world.site.on(
        "/page/1?", {"like": "too-many", "headers": {"Retry-After": "2"}}, exits=world.exits[:2],
        times=2,
    )  # fmt: skip
    settings = through(
        world, STORE=STORE, POLICY="round-robin", PROXIES=world.proxies(world.exits[:6]),
        URLS=urls(world, 60), SAVE_INTERVAL=0.2, WAIT_TIMEOUT=0.3, MAX_AGE=1800,
    )  # fmt: skip
    result = crawl(clock(0.0, 25, jump), settings)
    assert_clean(world, result)
    assert len(result.pages) == 60
    assert stat(result, "sessions/created") == 6
    assert stat(result, "sessions/retired") == 0
    now = time.time() + jump
    later = [row for row in saved_rows(crawl) if abs(row["used"] - now) < 60]
    assert len(later) >= 3  # some may not have been used since
    assert all(abs(row["born"] - now) < 60 for row in later)
