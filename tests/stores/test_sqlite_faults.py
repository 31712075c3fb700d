"""Full disks, broken files, busy neighbours: the last state stands, and saving starts again."""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.stores.base import Batch
from scrapy_session_filter.stores.owners import Owners
from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.stores.places import SITE, exits, row
from tests.stores.processes import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNLIMITED = -1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(file, busy_timeout=0.2)
    store.open()
    yield store
    store.close()


def test_saves_durably(store: SQLiteStore) -> None:
    """The connection has a rollback journal, full syncs, and overwrites what it deletes."""
    with store._reading() as db:
        found = [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "secure_delete")
        ]
    assert found == ["truncate", 2, 1]


@pytest.mark.parametrize("room", [0, 4096, 20_000, 60_000])
def test_a_full_disk(file: Path, room: int) -> None:
    """A save that does not fit fails whole, twenty times; with room the same batch is saved."""
    with Worker("serve", f"sqlite:{file}") as worker:
        assert worker.read() == "open"
        first = {"id": "first", "sessions": [row(n) for n in range(20)]}
        assert worker.call("apply", first) == 0
        large = [row(n, uses=500, learnt="x" * 20_000) for n in range(30)]
        second = {"id": "second", "sessions": large, "sites": {SITE: {"x": 1}}}
        worker.call("limit", file.stat().st_size + room)
        for _ in range(20):
            assert worker.call("apply", second)["error"] == "StoreError"
        assert worker.call("site_state", SITE) is None
        assert worker.call("claim", SITE, [])["exits"] == []
        worker.call("limit", UNLIMITED)
        assert worker.call("apply", second) == 0
        assert worker.call("apply", second) == 0
        assert worker.call("site_state", SITE) == {"x": 1}
        assert worker.call("renew") == {}
        worker.kill()
    after = SQLiteStore(file)
    after.open()
    assert after.claim(SITE, []).rows == large
    after.close()


def test_a_full_disk_at_start(file: Path) -> None:
    """Without room for a new file the start fails with one of our errors and leaves no file."""
    with Worker("serve", f"sqlite:{file.parent / 'other.sqlite'}") as worker:
        assert worker.read() == "open"
        worker.call("limit", 8192)
        assert worker.call("open_another", str(file))["error"] == "StoreError"
        assert not file.exists()
        worker.call("limit", UNLIMITED)
        assert worker.call("open_another", str(file)) is None


def test_no_room_for_a_backup_is_a_warning(
    store: SQLiteStore, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup that cannot be made keeps the last one, and the crawl starts."""
    store.apply(Batch("a", [row(1)]))
    store.close()
    (file.parent / "sessions.sqlite.bak.new").mkdir()
    store.open()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "backup" in record.getMessage()
    assert store.claim(SITE, []).exits == exits(1)
    assert (file.parent / "sessions.sqlite.bak").is_file()


def test_a_busy_file(store: SQLiteStore, file: Path) -> None:
    """While another process writes, a save waits a bounded time, fails, and works later."""
    store.apply(Batch("a", [row(1)]))
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            store.apply(Batch("b", [row(1, uses=5)]))
        other.execute("ROLLBACK")
    store.apply(Batch("b", [row(1, uses=5)]))
    assert list(store.rows()) == [row(1, uses=5)]


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_busy_file_is_not_a_damaged_one(
    store: SQLiteStore, file: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """A file that something holds locked cannot be opened now; nothing is repaired."""
    store.apply(Batch("a", [row(1)]))
    store.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        before = file.read_bytes()
        other.execute(f"BEGIN {how}")
        with pytest.raises(StoreError, match="locked"):
            store.open()
        other.execute("ROLLBACK")
    assert file.read_bytes() == before
    assert not caplog.records
    store.open()
    assert store.claim(SITE, []).rows == [row(1)]


def test_a_reader_does_not_hold_up_a_crawl(store: SQLiteStore, file: Path) -> None:
    """Between two rows that somebody looks at, the crawl saves."""
    store.apply(Batch("a", [row(n) for n in range(1200)]))
    reader = SQLiteStore(file)
    reader.open()
    rows = reader.rows()
    next(rows)
    store.apply(Batch("b", [row(1, uses=5)]))
    assert len(list(rows)) == 1199
    reader.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_removed_file(
    store: SQLiteStore, file: Path, caplog: pytest.LogCaptureFixture, replaced: bool
) -> None:
    """A file deleted or replaced in use is said once; what the owner holds can be saved again."""
    store.apply(Batch("a", [row(1), row(2)]))
    store.claim(SITE, ["p"])
    for path in file.parent.glob("sessions.sqlite*"):
        if path.is_file():
            path.unlink()
    if replaced:
        other = SQLiteStore(file.with_name("other.sqlite"))
        other.open()
        other.close()
        file.with_name("other.sqlite").rename(file)
    assert list(store.rows()) == []
    assert store.generation == 1
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "removed or replaced" in record.getMessage()
    store.apply(Batch("a", [row(1), row(2)]))
    assert list(store.rows()) == [row(1), row(2)]
    assert store.renew() == {}
    other = SQLiteStore(file)
    other.open()
    assert other.claim(SITE, []).exits == set()
    other.close()
    assert store.refused == 0


def test_a_removed_directory(store: SQLiteStore, file: Path, tmp_path: Path) -> None:
    """Without its directory every call is an error of ours; closing is none."""
    store.apply(Batch("a", [row(1)]))
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    tmp_path.rmdir()
    with pytest.raises(StoreError):
        store.apply(Batch("b", [row(1, uses=5)]))
    tmp_path.mkdir()
    store.apply(Batch("b", [row(1, uses=5)]))
    assert list(store.rows()) == [row(1, uses=5)]


def test_is_used_from_any_thread(store: SQLiteStore) -> None:
    """The writer thread, and at exit another one, may call; calls wait for each other."""
    errors: list[BaseException] = []

    def save(name: str) -> None:
        try:
            for n in range(20):
                store.apply(Batch(f"{name} {n}", [row(n, uses=n)]))
        except BaseException as error:  # noqa: BLE001 - the test shows it
            errors.append(error)

    threads = [threading.Thread(target=save, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(list(store.rows())) == 20


def test_an_error_in_the_middle_rolls_back(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a save half-way, nothing of it is kept."""

    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("scrapy_session_filter.stores.sqlite_batch._put_state", fail)
        with pytest.raises(KeyboardInterrupt):
            store.apply(Batch("a", [row(1)], sites={SITE: {"x": 1}}))
    assert list(store.rows()) == []
    store.apply(Batch("a", [row(1)], sites={SITE: {"x": 1}}))
    assert list(store.rows()) == [row(1)]


def test_a_failed_claim_is_not_lost(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exits granted in a call that then failed are granted again."""
    store.apply(Batch("a", [row(1)]))
    store.close()
    store.open()

    def fail(*args: object) -> None:
        raise StoreError

    with monkeypatch.context() as patch:
        patch.setattr(store, "_granted_rows", fail)
        with pytest.raises(StoreError):
            store.claim(SITE, [])
    assert store.claim(SITE, []).rows == [row(1)]


def test_only_one_opens_at_a_time(file: Path) -> None:
    """Who waits too long for another that opens or repairs the file gives up with an error."""
    one, two = Owners(file), Owners(file)
    with one.opening(1.0), pytest.raises(StoreError, match="has been opening"):
        two.opening(0.1).__enter__()
    with two.opening(0.1):
        pass


def test_dead_owners_leave_nothing(file: Path) -> None:
    """What killed owners left behind is swept away at the next clean start."""
    with Worker("serve", f"sqlite:{file}") as worker:
        assert worker.read() == "open"
        worker.call("claim", SITE, ["p"])
        worker.kill()
    store = SQLiteStore(file)
    store.open()
    assert [path.name for path in (file.parent / "sessions.sqlite.owners").iterdir()].count(
        "opening.lock"
    ) == 1
    assert len(list((file.parent / "sessions.sqlite.owners").iterdir())) == 2
    with store._reading() as db:
        assert db.execute("SELECT count(*) FROM claims").fetchone() == (0,)
    store.close()
