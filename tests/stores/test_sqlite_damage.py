"""Damaged store files: nothing altered is believed, what is intact is kept, the crawl starts."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from scrapy_session_filter.exceptions import StoreVersionError
from scrapy_session_filter.stores.base import Batch
from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.stores.places import SITE, row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scrapy_session_filter.session import Row

PAGE = 4096
SESSIONS = 60
KEPT_MOSTLY = ("flip", "zero", "truncate")


class Original:
    """A store in use since its last backup: of 60 sessions 5 were changed, 3 made, 3 removed.

    A session made since the backup is nowhere else: cut off, it is lost.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / "sessions.sqlite"
        self.backup = directory / "sessions.sqlite.bak"
        old = [self._row(n) for n in range(SESSIONS)]
        changed = [self._row(n, uses=1000 + n) for n in range(5)]
        new = [self._row(n) for n in range(100, 103)]
        gone = [self._row(n) for n in range(50, 53)]
        store = SQLiteStore(self.file)
        store.open()
        store.apply(Batch("a", old, sites={SITE: {"pace": 1.5}}, endpoints={"p": {"fails": 2}}))
        store.close()
        store.open()  # makes the backup
        store.apply(Batch("b", changed + new, removed=[(SITE, r["id"]) for r in gone]))
        store.close()
        self.now = {r["id"]: r for r in old + changed + new if r not in gone}
        self.versions = [*old, *changed, *new]

    @staticmethod
    def _row(number: int, **fields: Any) -> Row:
        filling = "x" * 5000 if number % 10 == 0 else "y" * (700 + number)  # some span pages
        return row(number, engine={"filling": filling}, **fields)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return Original(tmp_path_factory.mktemp("original"))


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_in_header(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(100)] ^= 1 << rng.randrange(8)


def zero(data: bytearray, rng: random.Random) -> None:
    length = rng.choice((16, 512, 4096, 8192))
    start = rng.randrange(len(data)) // length * length
    data[start : start + length] = bytes(len(data[start : start + length]))


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def swap(data: bytearray, rng: random.Random) -> None:
    one, two = (rng.randrange(len(data) // PAGE) * PAGE for _ in range(2))
    first = data[one : one + PAGE]
    data[one : one + PAGE] = data[two : two + PAGE]
    data[two : two + PAGE] = first


def scribble(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    length = len(data[start : start + rng.randrange(1, 2000)])
    data[start : start + length] = rng.randbytes(length)


def replace(data: bytearray, rng: random.Random) -> None:
    data[:] = rng.choice((b"", b"{}", b"not a database\n" * 50, rng.randbytes(20_000)))


def append(data: bytearray, rng: random.Random) -> None:
    data += rng.randbytes(rng.randrange(1, 9000))


KINDS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    flip_in_header,
    zero,
    truncate,
    swap,
    scribble,
    replace,
    append,
)


def start(
    original: Original, directory: Path, data: bytes, *, backup: bool
) -> tuple[list[Row], SQLiteStore]:
    """Open a store of these bytes and return what it would use."""
    for leftover in directory.iterdir():
        if leftover.is_file():
            leftover.unlink()
    file = directory / "sessions.sqlite"
    file.write_bytes(data)
    file.chmod(0o600)
    if backup:
        shutil.copyfile(original.backup, directory / "sessions.sqlite.bak")
    store = SQLiteStore(file)
    store.open()
    return store.claim(SITE, []).rows, store


def corrupt(original: Original, directory: Path, rounds: int, *, backup: bool) -> dict[str, float]:
    """Start after random damage of each kind; return the share of rows that were kept by kind."""
    sound = original.file.read_bytes()
    kept: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for n in range(rounds):
        kind = KINDS[n % len(KINDS)]
        data = bytearray(sound)
        kind(data, random.Random(n))
        try:
            rows, store = start(original, directory, bytes(data), backup=backup)
        except StoreVersionError:
            assert data[60:64] != sound[60:64]  # the version itself was hit: it reads as newer
            continue
        store.close()
        altered = [r["id"] for r in rows if r not in original.versions]
        assert not altered, (kind.__name__, n)
        tried[kind.__name__] += 1
        kept[kind.__name__] += len({r["id"] for r in rows} & original.now.keys())
    return {kind: kept[kind] / tried[kind] / len(original.now) for kind in tried}


def test_random_damage(
    original: Original, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 600 damaged files each starts, none yields an altered session, and 95 % is kept."""
    kept = corrupt(original, directory, 600, backup=True)
    assert len(kept) == len(KINDS)
    assert all(kept[kind] >= 0.95 for kind in KEPT_MOSTLY), kept


def test_random_damage_without_a_backup(original: Original, directory: Path) -> None:
    """Without a backup damaged files start as well, with what is intact in them."""
    kept = corrupt(original, directory, 200, backup=False)
    assert kept["flip"] >= 0.95, kept


@pytest.mark.soak
def test_much_random_damage(original: Original, directory: Path) -> None:
    """Of 10,000 damaged files each starts, none yields an altered session, and 95 % is kept."""
    kept = corrupt(original, directory, 10_000, backup=True)
    assert all(kept[kind] >= 0.95 for kind in KEPT_MOSTLY), kept


def test_one_flipped_bit_costs_one_row(
    original: Original, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a backup, a bit flipped in a session costs that session and no other."""
    data = original.file.read_bytes()
    at = data.index(row(17)["id"].encode() + b'","site"')
    damaged = bytearray(data)
    damaged[at] ^= 1
    rows, store = start(original, directory, bytes(damaged), backup=False)
    store.close()
    assert {r["id"] for r in rows} == original.now.keys() - {row(17)["id"]}


@pytest.mark.parametrize("backup", [True, False])
@pytest.mark.parametrize(
    "damaged", [b"", b"{}", b"x" * 10_000, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_says_once_what_happened(
    original: Original,
    directory: Path,
    caplog: pytest.LogCaptureFixture,
    damaged: bytes,
    backup: bool,
) -> None:
    """One ERROR names file, damage, numbers and the copy kept aside, which holds all its bytes."""
    rows, store = start(original, directory, damaged, backup=backup)
    store.close()
    (record,) = (r for r in caplog.records if r.levelno >= logging.WARNING)
    assert record.levelno == logging.ERROR
    assert record.name.startswith("scrapy_session_filter")
    (aside,) = directory.glob("sessions.sqlite.corrupt-*")
    assert str(aside) in record.getMessage()
    assert aside.read_bytes() == damaged
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert len(rows) == (SESSIONS if backup else 0)
    assert f"{SESSIONS if backup else 0} more came from its backup" in record.getMessage()


def test_a_repaired_file_is_sound(
    original: Original, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The start after a repair finds nothing wrong, and all that was learnt is there."""
    data = bytearray(original.file.read_bytes())
    data[0:100] = bytes(100)
    rows, store = start(original, directory, bytes(data), backup=False)
    store.close()
    assert {r["id"]: r for r in rows} == original.now
    caplog.clear()
    store.open()
    assert store.claim(SITE, []).rows == rows
    assert store.site_state(SITE) == {"pace": 1.5}
    assert store.endpoint_states() == {"p": {"fails": 2}}
    store.close()
    assert not caplog.records


def test_removed_sessions_stay_removed(original: Original, directory: Path) -> None:
    """A session retired since the last backup does not come back from it, if the file says so."""
    data = bytearray(original.file.read_bytes())
    data[0:100] = bytes(100)
    rows, store = start(original, directory, bytes(data), backup=True)
    store.close()
    assert {r["id"]: r for r in rows} == original.now


def test_overwrites_what_it_removes(tmp_path: Path) -> None:
    """No byte of a removed or replaced session's values stays in the file."""
    store = SQLiteStore(tmp_path / "s.sqlite")
    store.open()
    secrets = [f"secret-cookie-{n:03d}-" * 20 for n in range(40)]
    store.apply(Batch("a", [row(n, cookies=[{"value": s}]) for n, s in enumerate(secrets)]))
    store.apply(
        Batch(
            "b", [row(n) for n in range(20)], removed=[(SITE, row(n)["id"]) for n in range(20, 40)]
        )
    )
    store.close()
    assert b"secret-cookie" not in (tmp_path / "s.sqlite").read_bytes()


def test_damage_is_not_copied_over_the_backup(original: Original, directory: Path) -> None:
    """The backup is only replaced by a file that was found sound."""
    data = bytearray(original.file.read_bytes())
    data[data.index(row(17)["id"].encode() + b'","site"')] ^= 1
    rows, store = start(original, directory, bytes(data), backup=True)
    store.close()
    assert len(rows) == len(original.now)
    with sqlite3.connect(directory / "sessions.sqlite.bak") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM sessions").fetchone() == (len(original.now),)
    db.close()


def test_damage_met_while_running_costs_the_row(
    original: Original, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A row whose bytes change after the check at start is left out when it is read."""
    file = directory / "sessions.sqlite"
    shutil.copyfile(original.file, file)
    store = SQLiteStore(file)
    store.open()
    db = sqlite3.connect(file)
    db.execute("UPDATE sessions SET data = replace(data, 'Mozilla', 'Godzila') WHERE n = 4")
    db.commit()
    db.close()
    assert len(store.claim(SITE, []).rows) == len(original.now) - 1
    assert "1 saved sessions are damaged" in caplog.text
    store.close()


def test_a_kill_while_repairing_loses_nothing(
    original: Original, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step of a repair is the last one done, the next start repairs all the same."""
    data = bytearray(original.file.read_bytes())
    data[0:100] = bytes(100)
    for name in ("_fill", "_set_aside", "sync_directory"):

        def die(*args: object, name: str = name) -> None:
            raise KeyboardInterrupt(name)

        with monkeypatch.context() as patch:
            patch.setattr(f"scrapy_session_filter.stores.salvage.{name}", die)
            with pytest.raises(KeyboardInterrupt):
                start(original, directory, bytes(data), backup=True)
        store = SQLiteStore(directory / "sessions.sqlite")
        store.open()
        assert {r["id"]: r for r in store.claim(SITE, []).rows} == original.now
        store.close()
