"""When the store fails: the crawl goes on with what it holds, then waits, then closes; never bare."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.crawls.fleet import ENDLESS, LATENCY, Fleet, assert_apart, at_most
from tests.crawls.scenery import assert_clean, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import World

    from tests.stores.servers import Server
    from tests.world.crawls import Crawler

SITE = "shop.example"


def saved_uses(server: Server) -> int:
    """How many requests the saved sessions have served."""
    rows = server.client.hgetall(f"{{session-filter}}:s:{SITE}").values()
    return sum(json.loads(row)["uses"] for row in rows)


def pages(fleet: Fleet, name: str, start: float, end: float) -> int:
    """How many pages a crawl asked for in a time."""
    return sum(start <= visit.time < end for visit in fleet.visits(name))


class Fault:
    """Something that happens to a server, and its end."""

    def __init__(self, name: str, server: Server) -> None:
        begin: dict[str, Callable[[], Any]] = {
            "killed": server.kill,
            "full": lambda: server.client.config_set("maxmemory", 1),
            "wiped": server.client.flushall,
        }
        end: dict[str, Callable[[], Any]] = {
            "killed": server.start,
            "full": lambda: server.client.config_set("maxmemory", 0),
            "wiped": lambda: None,
        }
        self.begin, self.end = begin[name], end[name]


@pytest.mark.parametrize("fault", ["killed", "wiped", pytest.param("full", marks=pytest.mark.soak)])
def test_a_crawl_outlives_its_store(
    slow_world: World, tmp_path: Path, server: Server, fault: str
) -> None:
    """Two crawls go on meanwhile; within 5 s after, all that happened is saved, to the last use."""
    world = slow_world
    trouble = Fault(fault, server)
    with Fleet(world, tmp_path, server.uri) as fleet:
        one, two = fleet.start("one", ENDLESS), fleet.start("two", ENDLESS)
        fleet.wait_for(lambda: len(fleet.exits("one")) >= 6 and len(fleet.exits("two")) >= 6)
        trouble.begin()
        begun = time.monotonic()
        time.sleep(2.0)
        for name in ("one", "two"):
            assert pages(fleet, name, begun + 0.5, begun + 2.0) > 0
        trouble.end()
        before = len(world.site.visits)
        fleet.wait_for(lambda: saved_uses(server) > before, at_most(5))
        one.interrupt()
        two.interrupt()
        results = [one.wait(), two.wait()]
        for result in results:
            assert_clean(world, result)
        assert saved_uses(server) == sum(stat(result, "requests") for result in results)
        assert_apart(world, LATENCY)


def frozen_for(seconds: float, world: World, folder: Path, server: Server) -> None:
    """Freeze the server under a crawl that waits for the site rather than for the processor.

    Its pace is compared with that of a crawl beside it that has no such store: both slow down where
    the machine has other work.
    """
    with Fleet(
        world,
        folder,
        server.uri,
        CONCURRENT_REQUESTS=4,
        EXTENSIONS={"tests.crawls.lag.Lag": 2},
    ) as fleet:
        one = fleet.start("one", ENDLESS)
        other = fleet.start("other", ENDLESS, SESSION_FILTER_STORE="memory:")
        for name in ("one", "other"):
            fleet.wait_for(lambda name=name: len(fleet.exits(name)) == 12)  # type: ignore[misc]
        calm = time.monotonic()
        time.sleep(seconds)
        server.freeze()
        frozen = time.monotonic()
        time.sleep(seconds)
        server.thaw()
        thawed = time.monotonic()
        before = len(fleet.visits("one"))
        fleet.wait_for(lambda: saved_uses(server) > before, at_most(5))
        one.interrupt()
        other.interrupt()
        result = one.wait()
        assert_clean(world, result)
        assert other.wait().exit_code == 0
        while_calm, while_frozen = (
            pages(fleet, "one", *times) / pages(fleet, "other", *times)
            for times in ((calm, frozen), (frozen, thawed))
        )
        assert while_frozen >= 0.85 * while_calm
        held_up = [still for when, still in result.stats["lag"] if frozen < when < thawed]
        assert max(held_up, default=0.0) < at_most(0.05)
        assert stat(result, "store_failures") > 0


def test_a_frozen_store_holds_nobody_up(slow_world: World, tmp_path: Path, server: Server) -> None:
    """Nothing waits for the store but its own thread: the loop and the pace stay as they are."""
    frozen_for(3.0, slow_world, tmp_path, server)


@pytest.mark.soak
def test_a_store_frozen_for_long_holds_nobody_up(
    slow_world: World, tmp_path: Path, server: Server
) -> None:
    """Also for 20 s, a third of a claim's time."""
    frozen_for(20.0, slow_world, tmp_path, server)


def test_a_store_that_stays_away_closes_the_spider(
    world: World, crawl: Crawler, server: Server, tmp_path: Path
) -> None:
    """When the claims have run out requests wait; then the spider closes, and nothing is lost."""
    asked = urls(world, 300)
    settings = through(
        world,
        STORE=server.uri,
        STORE_TIMEOUT=1.0,
        PROXIES=world.proxies(),
        POLICY="random",
        JOBDIR=str(tmp_path / "job"),
        CLAIM_SECONDS=2.0,
        CONCURRENT_REQUESTS=4,
        EXTENSIONS={"tests.crawls.short_claims.ShortClaims": 1},
    )
    world.site.on("/page/*", {"like": "ok", "delay": 0.1})
    running = crawl.start(asked, settings)
    deadline = time.monotonic() + 30
    while len(running.items()) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.kill()
    killed = time.monotonic()
    first = running.wait()
    assert first.reason == "session_filter_store_lost"
    assert "Traceback" not in first.log
    assert not [v for v in world.site.visits if v.time > killed + at_most(2.5)]
    assert not world.site.direct_visits
    server.start()
    second = crawl(asked, settings)
    assert second.reason == "finished"
    fetched = [url for result in (first, second) for url in result.pages]
    assert sorted(fetched) == sorted(asked)


def test_a_locked_file_holds_nobody_up(slow_world: World, tmp_path: Path) -> None:
    """Crawls go on while another program keeps the SQLite file locked, and save after that."""
    world = slow_world
    file = tmp_path / "sessions.sqlite"
    with Fleet(world, tmp_path, f"sqlite:{file}", EXTENSIONS={"tests.crawls.lag.Lag": 2}) as fleet:
        one, two = fleet.start("one", ENDLESS), fleet.start("two", ENDLESS)
        fleet.wait_for(lambda: len(fleet.exits("one")) >= 6 and len(fleet.exits("two")) >= 6)
        other = sqlite3.connect(file, timeout=5)
        other.execute("BEGIN EXCLUSIVE")
        locked = time.monotonic()
        time.sleep(3.0)
        for name in ("one", "two"):
            assert pages(fleet, name, locked + 1.0, locked + 3.0) > 0
        other.rollback()
        other.close()
        one.interrupt()
        two.interrupt()
        results = [one.wait(), two.wait()]
        for result in results:
            assert_clean(world, result)
            assert max((still for _, still in result.stats["lag"]), default=0.0) < at_most(0.05)
        assert uses_in(file) == sum(stat(result, "requests") for result in results)
        assert_apart(world, LATENCY)


def uses_in(file: Path) -> int:
    """How many requests the sessions in a file have served."""
    db = sqlite3.connect(file)
    found = [json.loads(data) for (data,) in db.execute("SELECT data FROM sessions")]
    db.close()
    return sum(row["uses"] for row in found)


@pytest.mark.soak
def test_a_file_that_is_gone_is_made_again(slow_world: World, tmp_path: Path) -> None:
    """A store file that was deleted comes back with all that the crawls hold, each with its own."""
    world = slow_world
    file = tmp_path / "store" / "sessions.sqlite"
    with Fleet(world, tmp_path, f"sqlite:{file}") as fleet:
        one, two = fleet.start("one", ENDLESS), fleet.start("two", ENDLESS)
        fleet.wait_for(lambda: len(fleet.exits("one")) >= 6 and len(fleet.exits("two")) >= 6)
        file.unlink()
        time.sleep(2.0)
        one.interrupt()
        two.interrupt()
        results = [one.wait(), two.wait()]
        for result in results:
            assert_clean(world, result)
        assert uses_in(file) == sum(stat(result, "requests") for result in results)
        assert_apart(world, LATENCY)
