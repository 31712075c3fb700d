"""Several crawls on one store: each proxy of the list is one crawl's at a time, seen from the site."""

from __future__ import annotations

import random
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.crawls.fleet import ENDLESS, LATENCY, Fleet, assert_apart, at_most, collisions, who
from tests.crawls.scenery import assert_clean, stat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import World

    from tests.stores.servers import Server

CLAIM = 3.0  # seconds a claim holds in these crawls
SAVED = 0.7  # seconds between two saves in them
UNDER_WAY = 0.5  # seconds after which what a stopped crawl had begun to send has left it
LONG = partial(pytest.param, marks=pytest.mark.soak)


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'sessions.sqlite'}"
    server: Server = request.getfixturevalue("server")
    return server.uri


@pytest.mark.parametrize("store", ["sqlite", LONG("redis")], indirect=True)
def test_a_second_crawl_gets_its_share(slow_world: World, tmp_path: Path, store: str) -> None:
    """A crawl alone has the whole list; one that starts beside it has half of it within 5 s."""
    world = slow_world
    with Fleet(world, tmp_path, store) as fleet:
        one = fleet.start("one", ENDLESS)
        fleet.wait_for(lambda: len(fleet.exits("one")) == 12)
        two = fleet.start("two", ENDLESS)
        opened = fleet.wait_for(lambda: "Spider opened" in two.log())
        assert fleet.wait_for(lambda: len(fleet.exits("two")) == 6) - opened < at_most(5)
        two.interrupt()
        assert_clean(world, two.wait())
        assert len(fleet.exits("two")) == 6
        fleet.wait_for(lambda: len(fleet.exits("one", since=time.monotonic() - 1)) > 6)
        one.interrupt()
        assert_clean(world, one.wait())
        assert_apart(world, LATENCY)


@pytest.mark.parametrize(("kind", "patience"), [("sqlite", 2.5), ("redis", CLAIM + 1.0)])
def test_what_a_killed_crawl_held_is_free(
    slow_world: World, tmp_path: Path, request: pytest.FixtureRequest, kind: str, patience: float
) -> None:
    """A killed crawl's proxies: at once where its death can be seen, else after the claim's time."""
    world = slow_world
    server = request.getfixturevalue("server") if kind == "redis" else None
    store = f"sqlite:{tmp_path / 'sessions.sqlite'}" if server is None else server.uri
    with Fleet(world, tmp_path, store, CLAIM_SECONDS=CLAIM) as fleet:
        one, two = fleet.start("one", ENDLESS), fleet.start("two", ENDLESS)
        fleet.wait_for(lambda: len(fleet.exits("one")) >= 6 and len(fleet.exits("two")) >= 6)
        time.sleep(1.0)
        one.kill()
        killed = time.monotonic()
        fleet.wait_for(lambda: len(fleet.exits("two", since=killed)) == 12, at_most(patience))
        two.interrupt()
        assert two.wait().exit_code == 0
        assert_apart(world, LATENCY)


@pytest.mark.parametrize(
    ("store", "how"), [("sqlite", "kill"), LONG("redis", "give back")], indirect=["store"]
)
def test_a_ban_is_known_to_the_next_owner(
    slow_world: World, tmp_path: Path, store: str, how: str
) -> None:
    """A proxy on which one crawl was banned is not tried by the next that gets it."""
    world = slow_world
    banned = world.exits[:6]
    world.ban(banned)
    with Fleet(world, tmp_path, store, CLAIM_SECONDS=CLAIM) as fleet:
        one = fleet.start("one", ENDLESS)
        fleet.wait_for(lambda: len(fleet.exits("one")) == 12)
        time.sleep(1.0)
        learnt = time.monotonic()
        if how == "kill":
            one.kill()
        two = fleet.start("two", ENDLESS)
        good = set(world.exits[6:])
        at_least = 6 if how == "kill" else 1
        fleet.wait_for(lambda: len(fleet.exits("two") & good) >= at_least)
        time.sleep(1.0)
        two.interrupt()
        assert two.wait().exit_code == 0
        one.interrupt()
        one.wait()
        tried = {v.exit for v in world.site.visits if v.time > learnt and v.exit in banned}
        assert not tried
        assert_apart(world, LATENCY)


@pytest.mark.parametrize("store", [LONG("sqlite"), "redis"], indirect=True)
def test_a_crawl_that_was_stopped_leaves_what_it_lost(
    slow_world: World, tmp_path: Path, store: str
) -> None:
    """A crawl stopped beyond its claims goes on with what nobody took meanwhile, or was given back."""
    world = slow_world
    with Fleet(world, tmp_path, store, CLAIM_SECONDS=CLAIM) as fleet:
        one, two = fleet.start("one", ENDLESS), fleet.start("two", ENDLESS)
        fleet.wait_for(lambda: len(fleet.exits("one")) >= 6 and len(fleet.exits("two")) >= 6)
        one.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        fleet.wait_for(lambda: len(fleet.exits("two", since=stopped + 1)) == 12)
        one.process.send_signal(signal.SIGCONT)
        resumed = time.monotonic()
        fleet.wait_for(lambda: len(fleet.exits("one", since=resumed + LATENCY)) >= 4)
        time.sleep(1.0)
        one.interrupt()
        two.interrupt()
        result = one.wait()
        two.wait()
        assert stat(result, "exits/lost") >= 1
        # What was under way when it was stopped leaves when it goes on; nothing else may.
        late = {id(v) for v in fleet.visits("one") if resumed <= v.time < resumed + UNDER_WAY}
        seen = [v for v in world.site.visits if id(v) not in late]
        assert not collisions(seen, LATENCY)
        assert not world.site.direct_visits


@pytest.mark.parametrize("store", ["sqlite", LONG("redis")], indirect=True)
def test_a_pin_waits_for_the_crawl_that_has_its_session(
    slow_world: World, tmp_path: Path, store: str
) -> None:
    """It waits, goes back to the scheduler, and is served once the other crawl has ended."""
    world = slow_world
    with Fleet(world, tmp_path, store, CLAIM_SECONDS=CLAIM, SAVE_INTERVAL=SAVED) as fleet:
        one = fleet.start("one", ENDLESS)
        fleet.wait_for(lambda: len(fleet.exits("one")) == 12)
        fleet.wait_for(lambda: len(one.items()) > 30)
        session = one.items()[0]["session"]
        time.sleep(3 * SAVED)  # until it is in the store
        two = fleet.start("two", 1, pin=session, SESSION_FILTER_WAIT_TIMEOUT=0.5)
        fleet.wait_for(lambda: "Spider opened" in two.log())
        time.sleep(2.0)
        if two.items():  # it was among what the second crawl got for its share
            assert [item["session"] for item in two.items()] == [session]
        one.interrupt()
        assert_clean(world, one.wait())
        result = two.wait()
        assert_clean(world, result)
        assert [item.get("session") for item in result.items] == [session]
        assert stat(result, "sessions_gone") == 0


@pytest.mark.parametrize("store", [LONG("sqlite"), "redis"], indirect=True)
def test_a_redirect_chain_whose_session_was_lost_starts_again(
    slow_world: World, tmp_path: Path, store: str
) -> None:
    """Lost to another crawl between two hops: the first URL is asked for again by another visitor."""
    world = slow_world
    first, goal = "/page/one-1", "/page/goal"
    hop = {"status": 302, "headers": {"Location": goal}}
    world.site.on(first, hop)
    world.site.on(first, {**hop, "delay": 5.0}, times=1)
    with Fleet(world, tmp_path, store, CLAIM_SECONDS=CLAIM) as fleet:
        one = fleet.start("one", 1)
        fleet.wait_for(lambda: len(fleet.visits("one")) == 1)
        one.process.send_signal(signal.SIGSTOP)
        (lost,) = fleet.visits("one")
        two = fleet.start("two", ENDLESS)
        fleet.wait_for(lambda: lost.exit in fleet.exits("two"))
        world.ban([lost.exit])  # so that it does not come back to the first crawl by chance
        fleet.wait_for(lambda: any(v.exit == lost.exit and v.block for v in fleet.visits("two")))
        one.process.send_signal(signal.SIGCONT)
        result = one.wait()
        two.interrupt()
        assert two.wait().exit_code == 0
        assert_clean(world, result)
        assert [(world.url(goal), 200)] == [(item["url"], item["status"]) for item in result.items]
        assert [visit.path for visit in fleet.visits("one")] == [first, first, goal]
        again, last = fleet.visits("one")[1:]
        assert again.exit == last.exit != lost.exit
        assert again.headers["user-agent"] == last.headers["user-agent"]
        assert stat(result, "redirects_restarted") == 1
        assert stat(result, "exits/lost") >= 1
        assert_apart(world, LATENCY)


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "crawls"), [("sqlite", 4), ("redis", 8)])
def test_many_crawls_with_kills_and_freezes(
    make_world: Callable[..., World],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    kind: str,
    crawls: int,
) -> None:
    """For a minute and a half crawls start, freeze and are killed: no proxy has two users at once."""
    world = make_world(24, latency=LATENCY)
    server = request.getfixturevalue("server") if kind == "redis" else None
    store = f"sqlite:{tmp_path / 'sessions.sqlite'}" if server is None else server.uri
    rng = random.Random(5)
    options = {"CLAIM_SECONDS": 10.0, "CONCURRENT_REQUESTS": 4}
    late: list[tuple[str, float]] = []
    with Fleet(world, tmp_path, store, **options) as fleet:
        running = {name: fleet.start(name, ENDLESS) for name in map(str, range(crawls))}
        end = time.monotonic() + 90
        number = crawls
        while time.monotonic() < end:
            time.sleep(rng.uniform(2, 5))
            name = rng.choice(sorted(running))
            if rng.random() < 0.5:
                running.pop(name).kill()
                running[str(number)] = fleet.start(str(number), ENDLESS)
                number += 1
            else:
                running[name].process.send_signal(signal.SIGSTOP)
                time.sleep(rng.choice((1.0, 15.0)))
                running[name].process.send_signal(signal.SIGCONT)
                late.append((name, time.monotonic()))
        for crawl in running.values():
            crawl.interrupt()
        for crawl in running.values():
            crawl.wait()
        seen = [
            visit
            for visit in world.site.visits
            if not any(who(visit) == n and t <= visit.time < t + UNDER_WAY for n, t in late)
        ]
        assert not collisions(seen, LATENCY)
        assert not world.site.direct_visits
