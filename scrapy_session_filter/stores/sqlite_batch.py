"""How a batch of changes gets into a store file, inside one transaction."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.stores.base import MAX_ROW_BYTES, MAX_SESSIONS, MAX_STATE_BYTES, Batch
from scrapy_session_filter.stores.codec import (
    checksum,
    decode,
    encode,
    is_intact,
    row_key,
    text_key,
)

if TYPE_CHECKING:
    import sqlite3

    from scrapy_session_filter.session import Row
    from scrapy_session_filter.stores.sqlite_claims import Claims

logger = logging.getLogger(__name__)

_REMEMBERED = 16  # batches of each owner


@dataclass(slots=True)
class Done:
    """What a batch brought about: exits taken with it by site, exits gone, changes refused."""

    token: int = 0
    taken: dict[str, set[str]] = field(default_factory=dict)
    gone: list[tuple[str, str]] = field(default_factory=list)
    refused: int = 0


def write_batch(db: sqlite3.Connection, batch: Batch, claims: Claims, owner: str) -> Done:
    """Write what this owner may write of a batch, unless the batch was written before."""
    done = Done()
    if db.execute("SELECT 1 FROM batches WHERE id = ?", (batch.id,)).fetchone():
        return done
    _remember(db, batch.id, owner)
    writer = _Writer(db, claims, done)
    for row in batch.sessions:
        writer.put(row)
    for site, id_ in batch.removed:
        writer.remove(site, id_)
    writer.note_count()
    for site, state in batch.sites.items():
        if claims.speaks_for(db, site):
            _put_state(db, "site", site, state, MAX_STATE_BYTES)
        else:
            done.refused += 1
    for key, state in batch.endpoints.items():
        _put_state(db, "endpoint", key, state, MAX_ROW_BYTES)
    if done.taken:
        done.token = claims.take(db, done.taken)
    return done


def _remember(db: sqlite3.Connection, id_: str, owner: str) -> None:
    db.execute("INSERT INTO batches(id, owner) VALUES(?, ?)", (id_, owner))
    db.execute(
        "DELETE FROM batches WHERE owner = ? AND n NOT IN"
        " (SELECT n FROM batches WHERE owner = ? ORDER BY n DESC LIMIT ?)",
        (owner, owner, _REMEMBERED),
    )


def _put_state(
    db: sqlite3.Connection, kind: str, key: str, state: dict[str, Any], limit: int
) -> None:
    try:
        text_key(key)
        if kind == "site":
            state = _merged(db, key, state)
        data = encode(state, limit)
    except InvalidRow as error:
        logger.warning("The state of one %s is not saved: %s", kind, error)
        return
    db.execute(
        "INSERT INTO states(kind, key, data, sum) VALUES(?, ?, ?, ?)"
        " ON CONFLICT(kind, key) DO UPDATE SET data = excluded.data, sum = excluded.sum",
        (kind, key, data, checksum("states", (kind, key), data)),
    )


def _merged(db: sqlite3.Connection, site: str, state: dict[str, Any]) -> dict[str, Any]:
    saved = db.execute(
        "SELECT data, sum FROM states WHERE kind = 'site' AND key = ?", (site,)
    ).fetchone()
    if saved is not None and is_intact(saved[1], "states", ("site", site), saved[0]):
        state = {**decode(saved[0], MAX_STATE_BYTES, own=True), **state}
    return {name: value for name, value in state.items() if value is not None}


class _Writer:
    """Writes sessions, and keeps the books of one batch."""

    def __init__(self, db: sqlite3.Connection, claims: Claims, done: Done) -> None:
        self._db = db
        self._claims = claims
        self._done = done
        self._live = claims.live(db)
        (self._before,) = db.execute("SELECT value FROM meta WHERE key = 'sessions'").fetchone()
        self._count = self._before

    def put(self, row: Row) -> None:
        """Write a session, if it is this owner's; one that breaks a limit is left out."""
        try:
            site, id_, exit_ = row_key(row)
            data = encode(row, MAX_ROW_BYTES)
        except InvalidRow as error:
            logger.warning("Session %r is not saved: %s", row.get("id"), error)
            return
        saved = self._find(site, id_)
        if saved is None and self._count >= MAX_SESSIONS:
            logger.warning("Session %r is not saved: the store holds %d", id_, self._count)
            return
        if self._is_gone(site, id_) or not self._admits(site, exit_, self._done.taken):
            self._done.refused += 1
            return
        sum_ = checksum("sessions", (site, id_, exit_), data)
        if saved is None:
            self._count += 1
            self._db.execute(
                "INSERT INTO sessions(site, id, exit, data, sum) VALUES(?, ?, ?, ?, ?)",
                (site, id_, exit_, data, sum_),
            )
        elif saved[1] == exit_:  # as nearly always; the indexes need no change
            self._db.execute(
                "UPDATE sessions SET data = ?, sum = ? WHERE n = ?", (data, sum_, saved[0])
            )
        else:
            self._db.execute(
                "UPDATE sessions SET exit = ?, data = ?, sum = ? WHERE n = ?",
                (exit_, data, sum_, saved[0]),
            )

    def remove(self, site: str, id_: str) -> None:
        """Delete a session for good."""
        found = self._find(site, id_)
        if found is not None:
            n, exit_ = found
            if not self._admits(site, exit_, {}):
                self._done.refused += 1
                return
            self._db.execute("DELETE FROM sessions WHERE n = ?", (n,))
            self._count -= 1
            if exit_ == id_:  # an exit of its own went with it
                self._db.execute("DELETE FROM claims WHERE site = ? AND exit = ?", (site, exit_))
                self._done.taken.get(site, set()).discard(exit_)
                self._done.gone.append((site, exit_))
        self._db.execute(
            "INSERT OR IGNORE INTO removed(site, id, sum) VALUES(?, ?, ?)",
            (site, id_, checksum("removed", (site, id_))),
        )

    def note_count(self) -> None:
        """Keep the number of sessions, by which lost rows are noticed."""
        if self._count != self._before:
            self._db.execute(
                "UPDATE meta SET value = value + ? WHERE key = 'sessions'",
                (self._count - self._before,),
            )

    def _admits(self, site: str, exit_: str, taken: dict[str, set[str]]) -> bool:
        return self._claims.admits(self._db, site, exit_, self._live, taken)

    def _find(self, site: str, id_: str) -> tuple[int, str] | None:
        query = "SELECT n, exit FROM sessions WHERE site = ? AND id = ?"
        found: tuple[int, str] | None = self._db.execute(query, (site, id_)).fetchone()
        return found

    def _is_gone(self, site: str, id_: str) -> bool:
        query = "SELECT 1 FROM removed WHERE site = ? AND id = ?"
        return self._db.execute(query, (site, id_)).fetchone() is not None
