"""Several processes on one store file: killed, stopped, with wrong clocks; forks."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.stores.base import Batch
from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.stores.churn import SPEED, check_counts, fill
from tests.stores.places import SITE, exits, row
from tests.stores.processes import Worker

if TYPE_CHECKING:
    from pathlib import Path

YEAR = 365 * 86400.0


@pytest.fixture
def file(directory: Path) -> Path:
    return directory / "sessions.sqlite"


def kill_while_saving(file: Path, rounds: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(rounds)
    for _ in range(rounds):
        with Worker("save", f"sqlite:{file}") as worker:
            safe = worker.read()
            enough = time.monotonic() + rng.random() * 0.08
            while time.monotonic() < enough:
                safe = worker.read()
            worker.kill()
            while (later := worker.read()) is not None:
                safe = later
        store = SQLiteStore(file)
        store.open()
        rows = store.claim(SITE, []).rows
        state = store.site_state(SITE)
        store.close()
        rounds_found = {found["uses"] for found in rows}
        assert len(rows) == 10
        assert len(rounds_found) == 1  # all of a batch or nothing of it
        assert rounds_found <= {safe, safe + 1}
        assert state == {"round": rounds_found.pop()}
    assert not caplog.records


def test_killed_while_saving(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After kill -9 in the middle of saving, 20 times, all that was acknowledged is there."""
    kill_while_saving(file, 20, caplog)


@pytest.mark.soak
def test_killed_while_saving_often(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After kill -9 in the middle of saving, 500 times, all that was acknowledged is there."""
    kill_while_saving(file, 500, caplog)


def test_a_killed_owners_claims_are_free_at_once(file: Path) -> None:
    """The kernel frees a dead owner's lock, so nobody waits for its claims to run out."""
    fill(f"sqlite:{file}", 4)
    store = SQLiteStore(file)
    store.open()
    with Worker("serve", f"sqlite:{file}") as worker:
        assert worker.read() == "open"
        assert len(worker.call("claim", SITE, [])["exits"]) == 4
        assert store.claim(SITE, []).exits == set()
        worker.kill()
    assert store.claim(SITE, []).exits == exits(*range(4))
    store.close()


def test_a_stopped_owner_keeps_its_claims_for_their_time(file: Path) -> None:
    """A frozen process lives; its claims run out, and its late changes are refused."""
    fill(f"sqlite:{file}", 2)
    with Worker("serve", f"sqlite:{file}", speed=SPEED) as worker:
        assert worker.read() == "open"
        start = time.monotonic()
        assert len(worker.call("claim", SITE, [])["exits"]) == 2
        worker.signal(signal.SIGSTOP)
        store = SQLiteStore(file, clock=lambda: time.monotonic() * SPEED)
        store.open()
        while not (claim := store.claim(SITE, [], most=1)).exits:
            assert time.monotonic() < start + 10
            time.sleep(0.02)
        assert time.monotonic() - start > 0.9
        (mine,) = claim.rows
        store.apply(Batch("mine", [{**mine, "uses": 70}]))
        worker.signal(signal.SIGCONT)
        late = {"id": "late", "sessions": [row(0, uses=1), row(1, uses=1)]}
        assert worker.call("apply", late) == 1
        assert worker.call("renew") == {SITE: [mine["exit"]]}
        uses = {found["id"]: found["uses"] for found in store.rows()}
        assert sorted(uses.values()) == [1, 70]
        assert uses[mine["id"]] == 70
        store.close()


def test_a_second_process_gets_its_share(file: Path) -> None:
    """What the first gives back when it sees the want, the second has on its next question."""
    fill(f"sqlite:{file}", 10)
    with Worker("serve", f"sqlite:{file}") as first, Worker("serve", f"sqlite:{file}") as second:
        assert (first.read(), second.read()) == ("open", "open")
        mine = first.call("claim", SITE, [])["exits"]
        assert second.call("claim", SITE, [])["exits"] == []
        surplus = first.call("surplus", SITE)
        assert surplus == 5
        first.call("release", SITE, mine[:surplus])
        assert second.call("claim", SITE, [])["exits"]


def test_wall_clocks_do_not_matter(file: Path) -> None:
    """Processes whose clocks differ by years respect each other's claims."""
    fill(f"sqlite:{file}", 2)
    uri = f"sqlite:{file}"
    with Worker("serve", uri, skew=YEAR) as ahead, Worker("serve", uri, skew=-50 * YEAR) as behind:
        assert (ahead.read(), behind.read()) == ("open", "open")
        assert ahead.call("claim", SITE, [], 1)["exits"] == sorted(exits(0))
        assert behind.call("claim", SITE, [])["exits"] == sorted(exits(1))
        assert ahead.call("renew") == behind.call("renew") == {}
        assert ahead.call("claim", SITE, [])["exits"] == []


@pytest.mark.parametrize("processes", [2, 4])
def test_counters_are_exact(file: Path, processes: int) -> None:
    """Through kills and freezes no count is lost or doubled, so no session had two users."""
    check_counts(f"sqlite:{file}", processes, seconds=4.0)


@pytest.mark.soak
def test_counters_are_exact_for_a_minute(file: Path) -> None:
    """Through a minute of kills and freezes of four processes no count is lost or doubled."""
    check_counts(f"sqlite:{file}", 4, seconds=60.0)


def test_two_crawls_of_one_process_are_two_owners(file: Path) -> None:
    """Stores opened twice in one process do not share claims."""
    one, two = SQLiteStore(file), SQLiteStore(file)
    one.open()
    two.open()
    assert one.claim(SITE, ["p"]).exits == {"p"}
    assert two.claim(SITE, ["p"]).exits == set()
    one.close()
    two.close()


def test_a_forked_child_cannot_use_its_parents_store(file: Path) -> None:
    """In a child every call is an error that says so; the parent's store goes on."""
    store = SQLiteStore(file)
    store.open()
    store.apply(Batch("a", [row(1)]))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.sites()
        except StoreError as error:
            code = 0 if "not open in this process" in str(error) else 2
        finally:
            store.close()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    store.apply(Batch("b", [row(1, uses=5)]))
    assert store.claim(SITE, ["p"]).exits == {"p"}
    other = SQLiteStore(file)
    other.open()
    assert other.claim(SITE, ["p"]).exits == set()
    other.close()
    store.close()


def test_a_child_does_not_keep_its_parents_claims_alive(file: Path) -> None:
    """When the parent is gone its claims are free, though a child of it still runs."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        store = SQLiteStore(file)
        store.open()
        store.claim(SITE, ["p"])
        if os.fork() == 0:
            time.sleep(20)  # a child that outlives its parent; the test kills it
            os._exit(0)
        os.write(writing, b"x")
        time.sleep(20)
        os._exit(0)
    os.setpgid(parent, parent)
    assert os.read(reading, 1) == b"x"
    store = SQLiteStore(file)
    store.open()
    try:
        assert store.claim(SITE, ["p"]).exits == set()
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert store.claim(SITE, ["p"]).exits == {"p"}
    finally:
        store.close()
        os.killpg(parent, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


def test_a_second_crawl_of_one_process_keeps_the_firsts_locks(file: Path) -> None:
    """Whoever opens the file in a process that is writing to it leaves the writer its lock."""
    one, two = SQLiteStore(file), SQLiteStore(file)
    one.open()
    with Worker("serve", f"sqlite:{file}") as other, closing(sqlite3.connect(file)) as writer:
        assert other.read() == "open"
        writer.execute("BEGIN IMMEDIATE")
        two.open()
        assert "locked" in other.call("renew")["text"]
        writer.execute("ROLLBACK")
        assert other.call("renew") == {}
    one.close()
    two.close()
