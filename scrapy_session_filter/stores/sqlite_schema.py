"""What a store file contains, and the look at it before it is trusted.

``sessions``, ``states`` and ``removed`` are what a crawl has learnt; each row carries a checksum.
The other tables say who works with the file now and mean nothing once nobody does.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import StoreError, StoreVersionError
from scrapy_session_filter.stores.codec import is_intact

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID = 0x53534631  # "SSF1"
PAGE_SIZE = 4096

MIGRATIONS = (
    """
    CREATE TABLE meta(key TEXT PRIMARY KEY, value);
    CREATE TABLE sessions(
        n INTEGER PRIMARY KEY, site TEXT NOT NULL, id TEXT NOT NULL, exit TEXT NOT NULL,
        data BLOB NOT NULL, sum BLOB NOT NULL
    );
    CREATE UNIQUE INDEX sessions_id ON sessions(site, id);
    CREATE INDEX sessions_exit ON sessions(site, exit);
    CREATE TABLE states(
        n INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL,
        data BLOB NOT NULL, sum BLOB NOT NULL, UNIQUE(kind, key)
    );
    CREATE TABLE removed(
        n INTEGER PRIMARY KEY, site TEXT NOT NULL, id TEXT NOT NULL,
        sum BLOB NOT NULL, UNIQUE(site, id)
    );
    CREATE TABLE owners(id TEXT PRIMARY KEY, until REAL NOT NULL, robbed INTEGER NOT NULL);
    CREATE TABLE claims(
        site TEXT NOT NULL, exit TEXT NOT NULL, token INTEGER NOT NULL, owner TEXT,
        PRIMARY KEY(site, exit)
    );
    CREATE INDEX claims_token ON claims(token);
    CREATE TABLE wants(
        site TEXT NOT NULL, owner TEXT NOT NULL, short INTEGER NOT NULL, until REAL NOT NULL,
        PRIMARY KEY(site, owner)
    );
    CREATE TABLE batches(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL);
    INSERT INTO meta VALUES('token', 0);
    INSERT INTO meta VALUES('sessions', 0);
    """,
)
"""``MIGRATIONS[i]`` lifts a file from schema version i to i + 1; version 0 is an empty file."""

VERSION = len(MIGRATIONS)
_PLAUSIBLE = 1000  # a higher version number is damage, not a release

#: What sqlite3 raises on damaged files beside its own errors (text that is not UTF-8, lengths
#: beyond any memory).
DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError, MemoryError)
_TROUBLE = ("locked", "disk I/O error", "disk is full", "unable to open", "interrupted")


def is_trouble(error: BaseException) -> bool:
    """Return whether an error of SQLite's speaks of the moment (busy, full, no I/O), not the file.

    By its text: its code is known to Python from 3.11 on only.
    """
    return isinstance(error, sqlite3.OperationalError) and any(
        words in str(error) for words in _TROUBLE
    )


def refuse_newer(path: Path, version: int) -> None:
    """Raise `StoreVersionError` if a file's schema version is one of a newer release."""
    if VERSION < version < _PLAUSIBLE:
        msg = (
            f"{path} has schema version {version}, this release knows {VERSION}: it was written by"
            " a newer release and is left untouched"
        )
        raise StoreVersionError(msg)


def refuse_older(path: Path, version: int) -> None:
    """Raise `StoreError` if a file that others use now needs to be lifted to this schema."""
    if version < VERSION:
        msg = f"{path} is in use by an older release (schema {version}, not {VERSION})"
        raise StoreError(msg)


def version_of(path: Path) -> int:
    """Return the schema version that a file's header names; 0 if it is not one of ours.

    For a file that nobody uses: SQLite does not open it.
    """
    header = read_header(path)
    return int.from_bytes(header[60:64], "big") if _is_ours(header) else 0


def version_in_use(path: Path) -> int:
    """Return the same of a file that may be in use, by this process as well.

    SQLite reads it: whoever else closes a file ends all locks that his process has on it.
    """
    with closing(sqlite3.connect(path)) as db:
        ours = _pragma(db, "application_id") == APPLICATION_ID
        return int(_pragma(db, "user_version")) if ours else 0


def read_header(path: Path) -> bytes:
    """Return the 100 bytes with which an SQLite file begins."""
    with path.open("rb") as file:
        return file.read(100)


def _is_ours(header: bytes) -> bool:
    return int.from_bytes(header[68:72], "big") == APPLICATION_ID


def is_foreign(path: Path) -> bool:
    """Return whether the file is a sound SQLite database of some other program; only reads it."""
    if _is_ours(read_header(path)):
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            ours = {"sessions", "claims", "batches"} <= tables
            return bool(tables) and not ours and _pragma(db, "integrity_check") == "ok"
    except DAMAGE as error:
        if is_trouble(error):
            raise
        return False


def migrate(db: sqlite3.Connection) -> None:
    """Lift an open file to the schema of this release, in one transaction."""
    version = _pragma(db, "user_version")
    if version == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    for script in MIGRATIONS[version:]:
        for statement in script.split(";"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("COMMIT")


def find_damage(db: sqlite3.Connection, header: bytes) -> str | None:
    """Return what is wrong with an open file, or None if all of it is sound.

    Its ``header`` (the first 100 bytes) must not tell SQLite that it is read-only. Its structure is
    checked by SQLite, its schema against the one this release would have made, and every row that
    counts by its checksum.
    """
    if not {*header[18:20]} <= {1, 2}:
        return "its header is damaged"
    try:
        return _find_damage(db)
    except DAMAGE as error:
        if is_trouble(error):
            raise
        return str(error) or type(error).__name__


def _find_damage(db: sqlite3.Connection) -> str | None:
    if _pragma(db, "application_id") != APPLICATION_ID:
        return "not a session store"
    version = _pragma(db, "user_version")
    if not 0 < version <= VERSION:
        return f"impossible schema version {version}"
    if _schema(db) != _expected_schema(version):
        return "its schema has changed"
    found = _pragma(db, "integrity_check")
    if found != "ok":
        return " ".join(str(found).split())[:200]
    return _wrong_rows(db)


def _wrong_rows(db: sqlite3.Connection) -> str | None:
    bad = count = 0
    for site, id_, exit_, data, sum_ in db.execute("SELECT site,id,exit,data,sum FROM sessions"):
        count += 1
        bad += not is_intact(sum_, "sessions", (site, id_, exit_), data)
    for kind, key, data, sum_ in db.execute("SELECT kind,key,data,sum FROM states"):
        bad += not is_intact(sum_, "states", (kind, key), data)
    for site, id_, sum_ in db.execute("SELECT site,id,sum FROM removed"):
        bad += not is_intact(sum_, "removed", (site, id_))
    if bad:
        return f"{bad} rows have a wrong checksum"
    noted = dict(db.execute("SELECT key, value FROM meta"))
    if not isinstance(noted.get("token"), int) or noted.get("sessions") != count:
        return f"it holds {count} sessions and should hold {noted.get('sessions')}"
    return None


def _schema(db: sqlite3.Connection) -> set[tuple[str, str | None]]:
    return set(db.execute("SELECT name, sql FROM sqlite_master"))


def _expected_schema(version: int) -> set[tuple[str, str | None]]:
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        return _schema(db)
    finally:
        db.close()


def _pragma(db: sqlite3.Connection, name: str) -> Any:
    (value,) = db.execute(f"PRAGMA {name}").fetchone()
    return value
