"""`sqlite:`: one file for all processes of one machine."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import ConfigurationError, StoreError
from scrapy_session_filter.garbage import set_aside
from scrapy_session_filter.rows import read_whole
from scrapy_session_filter.stores import sqlite_file
from scrapy_session_filter.stores.base import (
    MAX_ROW_BYTES,
    MAX_STATE_BYTES,
    SETTING,
    Batch,
    Claim,
    SessionStore,
)
from scrapy_session_filter.stores.forks import survive_forks
from scrapy_session_filter.stores.owners import Owners
from scrapy_session_filter.stores.sqlite_batch import write_batch
from scrapy_session_filter.stores.sqlite_claims import Claims
from scrapy_session_filter.stores.sqlite_read import intact, read_states
from scrapy_session_filter.stores.sqlite_schema import DAMAGE, refuse_newer, version_in_use
from scrapy_session_filter.stores.sqlite_start import clean_start, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from scrapy_session_filter.session import Row

logger = logging.getLogger(__name__)

_OPENING_SECONDS = 30.0  # longest wait while another process opens or repairs the file
_PORTION = 200  # rows that are read at a time: a millisecond or two in which nobody else runs


class SQLiteStore(SessionStore):
    """Keeps pools in the SQLite file ``path``, which many processes may use at once.

    One transaction per batch, durable when `apply` returns. Only changed rows are written. The file
    is for its owner's eyes only. Waits for other writers at most ``busy_timeout`` seconds. After
    any error the last state stands and the next call starts over.
    """

    shared = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        busy_timeout: float = 5.0,
    ) -> None:
        self._path = path
        self._clock = clock
        self._busy_timeout = busy_timeout
        self.lock = threading.Lock()
        self._pid: int | None = None  # of the process that opened it, until it is closed
        self._db: sqlite3.Connection | None = None
        self._file: Path
        self._file_id: tuple[int, int]
        self._owners: Owners
        self._claims: Claims

    @classmethod
    def from_uri(cls, uri: str, default_path: str) -> SQLiteStore:
        """Build it from ``sqlite:`` or ``sqlite:PATH`` (``sqlite:///PATH`` is an absolute one)."""
        path = uri.removeprefix("sqlite:")
        if path.startswith("///"):
            path = path[2:]
        if path.startswith(("//", ":memory:")) or "\0" in path:
            raise ConfigurationError(
                SETTING, uri, "'sqlite:', 'sqlite:PATH', or 'memory:' for no file"
            )
        return cls(path or default_path)

    def open(self) -> None:
        """Open the file or make it; repair it if it is damaged, copy it to ``.bak`` if it is sound.

        Only the first of several processes checks and copies. Raises `ConfigurationError` where no
        file can be at the path, or another program's is, `StoreVersionError` where a newer release
        wrote it.
        """
        if self._pid is not None:
            msg = f"{self._path} is already open"
            raise StoreError(msg)
        self._file = sqlite_file.locate(self._path)
        self._owners = Owners(self._file)
        self._claims = Claims(self._owners, self._clock, self.claim_seconds)
        try:
            with self._owners.opening(_OPENING_SECONDS):
                others = self._owners.others()
                prepare(self._file, alone=not others)
                db = self._connect()
                self._owners.join()
                if not others:
                    clean_start(db, self._file, self._owners)
        except BaseException as error:
            self._disconnect()
            self._owners.leave()
            if isinstance(error, (*DAMAGE, OSError)):
                msg = f"{self._file} cannot be opened: {error}"
                raise StoreError(msg) from error
            raise
        self._pid = os.getpid()
        survive_forks(self)

    def claim(self, site: str, offered: Collection[str], most: int | None = None) -> Claim:
        """Claim a fair share of a site's free exits; damaged rows on them are left out."""
        with self._transaction() as db:
            saved = db.execute("SELECT exit FROM sessions WHERE site = ? ORDER BY n", (site,))
            candidates = [*(exit_ for (exit_,) in saved), *offered]
            token, granted, short = self._claims.grant(db, site, candidates, most)
        with set_aside(len(granted)):
            rows = list(self._granted_rows(token)) if granted else []
        self._claims.keep(site, granted, token)  # not before the rows are there: else none holds it
        return Claim(token, granted, rows, short)

    def renew(self) -> dict[str, set[str]]:
        """Prolong all claims of this owner; returns, by site, exits that were lost meanwhile."""
        with self._transaction() as db:
            lost = self._claims.renew(db)
        for site, exits in lost.items():
            self._claims.drop(site, exits)
        return lost

    def held(self, site: str) -> set[str]:
        """Return the exits of a site that this owner holds as far as it knows."""
        return self._claims.held(site)

    def alone(self) -> bool:
        """Return whether no other process has the file open; needs the directory only."""
        try:
            return not self._owners.others()
        except OSError:
            return False

    def wanted(self) -> set[str]:
        """Return the sites where another owner lacks exits."""
        with self._reading() as db:
            return self._claims.wanted(db)

    def surplus(self, site: str) -> int:
        """Return how many exits of a site to give back so that owners that are short get theirs."""
        with self._reading() as db:
            return self._claims.surplus(db, site)

    def release(self, site: str, exits: Collection[str]) -> None:
        """Give claims back at once."""
        with self._transaction() as db:
            self._claims.release(db, site, exits)
        self._claims.drop(site, exits)

    def site_state(self, site: str) -> dict[str, Any] | None:
        """Return what was learnt of a site, or None."""
        with self._reading() as db:
            return read_states(db, "site", MAX_STATE_BYTES, site).get(site)

    def endpoint_states(self) -> dict[str, dict[str, Any]]:
        """Return the saved health of all endpoints by key."""
        with self._reading() as db:
            return read_states(db, "endpoint", MAX_ROW_BYTES)

    def apply(self, batch: Batch) -> None:
        """Write a batch durably, once; new exits in it become claimed by this owner."""
        with self._transaction() as db:
            done = write_batch(db, batch, self._claims, self._owners.id)
        self.refused += done.refused
        for site, exits in done.taken.items():
            self._claims.keep(site, exits, done.token)
        for site, exit_ in done.gone:
            self._claims.forget(site, exit_)

    def sites(self) -> list[str]:
        """Return the keys of all sites with sessions or a learnt state."""
        query = "SELECT site FROM sessions UNION SELECT key FROM states WHERE kind = 'site'"
        with self._reading() as db:
            return sorted(site for (site,) in db.execute(query))

    def has(self, site: str, session_id: str) -> bool:
        """Return whether a session is saved, whoever claims its exit."""
        query = "SELECT 1 FROM sessions WHERE site = ? AND id = ?"
        with self._reading() as db:
            return db.execute(query, (site, session_id)).fetchone() is not None

    def rows(self, site: str | None = None) -> Iterator[Row]:
        """Yield saved sessions, without claiming them."""
        found = self._portions(
            "SELECT n, site, id, exit, data, sum FROM sessions"
            " WHERE n > :last AND (:site IS NULL OR site = :site) ORDER BY n LIMIT :most",
            {"site": site},
        )
        yield from map(read_whole, found)

    def _granted_rows(self, token: int) -> Iterator[Row]:
        return self._portions(
            "SELECT c.rowid, s.site, s.id, s.exit, s.data, s.sum FROM ("
            "  SELECT rowid, site, exit FROM claims WHERE token = :token AND rowid > :last"
            "  ORDER BY rowid LIMIT :most"
            ") c LEFT JOIN sessions s ON s.site = c.site AND s.exit = c.exit",
            {"token": token},
        )

    def _portions(self, query: str, values: dict[str, Any]) -> Iterator[Row]:
        """Read in short looks at the file, which hold up no writer."""
        last = -1
        while True:
            with self._reading() as db:
                found = db.execute(query, {**values, "last": last, "most": _PORTION}).fetchall()
            if not found:
                return
            last = found[-1][0]
            yield from intact([row for row in found if row[1] is not None])

    def close(self) -> None:
        """Release all claims and close; never fails: a claim dies with its owner anyway."""
        with self.lock:
            if self._pid != os.getpid():
                return
            self._pid = None
            try:
                db = self._db
                if db is not None and self._same_file():
                    db.execute("BEGIN IMMEDIATE")
                    self._claims.leave(db)
                    db.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                logger.debug("Claims in %s are left to end by themselves: %s", self._file, error)
            finally:
                self._disconnect()
                self._owners.leave()

    def forked(self) -> None:
        """Let go, in a child process, of what belongs to its parent."""
        self._disconnect()
        if self._pid is not None:
            self._owners.leave()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self.lock:
            if self._pid != os.getpid():
                msg = f"{self._path} is not open in this process"
                raise StoreError(msg)
            try:
                yield self._connection()
            except (*DAMAGE, OSError) as error:
                self._disconnect()
                msg = f"{self._file} cannot be used: {error}"
                raise StoreError(msg) from error
            except BaseException:
                self._disconnect()  # which rolls back
                raise

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None and self._same_file():
            return self._db
        self._disconnect()
        return self._connect() if self._same_file() else self._start_over()

    def _start_over(self) -> sqlite3.Connection:
        """Go on in a new file after this one was removed or replaced under us."""
        with self._owners.opening(_OPENING_SECONDS):
            if not self._file.exists():
                sqlite_file.create(self._file)
            refuse_newer(self._file, version_in_use(self._file))
            db = self._connect()
            self._owners.join()
        self._claims.forget_all()
        self.generation += 1
        logger.error(
            "The session store %s was removed or replaced while in use; what this crawl holds is"
            " written again",
            self._file,
        )
        return db

    def _connect(self) -> sqlite3.Connection:
        self._db = db = sqlite_file.connect(self._file, self._busy_timeout)
        self._file_id = self._identity()
        return db

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _same_file(self) -> bool:
        try:
            return self._identity() == self._file_id
        except FileNotFoundError:
            return False

    def _identity(self) -> tuple[int, int]:
        found = self._file.stat()
        return found.st_dev, found.st_ino
