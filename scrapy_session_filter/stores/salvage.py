"""What is intact in a damaged store file, read without trusting its structure.

SQLite keeps rows in leaf pages of its b-trees. Whatever else is damaged, each page that looks like
such a leaf is taken apart (https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.1) and each
row in it is believed if its checksum holds. Removed content is overwritten with zeros by SQLite
(``secure_delete``), so nothing that was deleted comes back.
"""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.stores.base import MAX_ROW_BYTES, MAX_STATE_BYTES
from scrapy_session_filter.stores.codec import checksum, decode, is_intact
from scrapy_session_filter.stores.sqlite_file import backup_of, fresh, sync_directory
from scrapy_session_filter.stores.sqlite_schema import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

_LEAF = 0x0D
_LOCAL_MOST = PAGE_SIZE - 35  # longest payload that needs no overflow pages
_LOCAL_LEAST = (PAGE_SIZE - 12) * 32 // 255 - 23

Value = int | str | bytes | None


@dataclass(slots=True)
class Found:
    """Intact rows: sessions by (site, id) as (exit, data), states by (kind, key), removed ids."""

    sessions: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict, repr=False)
    states: dict[tuple[str, str], bytes] = field(default_factory=dict)
    removed: set[tuple[str, str]] = field(default_factory=set)


def repair(file: Path, damage: str) -> None:
    """Replace a damaged store by one with all rows that are intact in it or in its backup.

    The damaged file stays as ``<name>.corrupt-<time>``. Says what happened in one ERROR. To be
    called by the only process that has the file open; being killed meanwhile does no harm.
    """
    found = scan(file)
    kept = len(found.sessions)
    backup = backup_of(file)
    old = scan(backup) if backup.exists() else Found()
    found.removed |= old.removed
    found.sessions = {**old.sessions, **found.sessions}
    found.states = {**old.states, **found.states}
    for key in found.removed & found.sessions.keys():
        del found.sessions[key]
    new = fresh(file)
    _fill(new, found)
    aside = _set_aside(file)
    new.replace(file)
    sync_directory(file.parent)
    logger.error(
        "The session store %s was damaged (%s): %d sessions in it were intact, %d more came from"
        " its backup; the crawl goes on with these, the damaged file is kept as %s",
        file,
        damage,
        kept,
        len(found.sessions) - kept,
        aside,
    )


def _set_aside(file: Path) -> Path:
    name = f"{file.name}.corrupt-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    aside, n = file.with_name(name), 1
    while aside.exists():
        aside, n = file.with_name(f"{name}-{n}"), n + 1
    try:
        os.link(file, aside)  # at every moment one of the two names is there
    except OSError:
        shutil.copyfile(file, aside)
    aside.chmod(0o600)
    journal = file.with_name(file.name + "-journal")
    if journal.exists():  # it belongs to the damaged file and must not be played into the new one
        journal.replace(aside.with_name(aside.name + "-journal"))
    return aside


def _fill(file: Path, found: Found) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT INTO sessions(site, id, exit, data, sum) VALUES(?, ?, ?, ?, ?)",
            (
                (site, id_, exit_, data, checksum("sessions", (site, id_, exit_), data))
                for (site, id_), (exit_, data) in found.sessions.items()
            ),
        )
        db.executemany(
            "INSERT INTO states(kind, key, data, sum) VALUES(?, ?, ?, ?)",
            ((*key, data, checksum("states", key, data)) for key, data in found.states.items()),
        )
        db.executemany(
            "INSERT INTO removed(site, id, sum) VALUES(?, ?, ?)",
            ((*key, checksum("removed", key)) for key in found.removed),
        )
        db.execute("UPDATE meta SET value = ? WHERE key = 'sessions'", (len(found.sessions),))
        db.execute("COMMIT")


def scan(file: Path) -> Found:
    """Return all rows of a file, sound or not, whose checksums hold."""
    found = Found()
    with file.open("rb") as opened:
        if os.fstat(opened.fileno()).st_size == 0:
            return found
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for payload in _Pages(data).payloads():
                _take(found, payload)
    return found


def _take(found: Found, payload: bytes) -> None:
    try:
        record = _record(payload)
    except (IndexError, ValueError):
        return  # not a record
    match record:
        case [_, str(site), str(id_), str(exit_), bytes(data), bytes(sum_)]:
            if not is_intact(sum_, "sessions", (site, id_, exit_), data):
                return
            twin = found.sessions.get((site, id_))
            if twin is None or _used(data) >= _used(twin[1]):
                found.sessions[site, id_] = (exit_, data)
        case [_, str(kind), str(key), bytes(data), bytes(sum_)]:
            if is_intact(sum_, "states", (kind, key), data) and len(data) <= MAX_STATE_BYTES:
                found.states[kind, key] = data
        case [_, str(site), str(id_), bytes(sum_)]:
            if is_intact(sum_, "removed", (site, id_)):
                found.removed.add((site, id_))


def _used(data: bytes) -> float:
    try:
        used = decode(data, MAX_ROW_BYTES, own=True).get("used")
    except InvalidRow:
        return 0.0
    return used if isinstance(used, (int, float)) else 0.0


class _Pages:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data

    def payloads(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), PAGE_SIZE):
            page = self._data[start : start + PAGE_SIZE]
            header = 100 if start == 0 else 0
            if page[header : header + 1] != bytes([_LEAF]):
                continue
            count = int.from_bytes(page[header + 3 : header + 5], "big")
            first = header + 8
            for at in range(first, min(first + 2 * count, len(page) - 1), 2):
                payload = self._payload(page, int.from_bytes(page[at : at + 2], "big"))
                if payload is not None:
                    yield payload

    def _payload(self, page: bytes, at: int) -> bytes | None:
        try:
            return self._cell(page, at)
        except (IndexError, ValueError):
            return None

    def _cell(self, page: bytes, at: int) -> bytes:
        length, at = _varint(page, at)
        _, at = _varint(page, at)  # the row's number
        if length <= _LOCAL_MOST:
            return page[at : at + length]
        if length > 2 * MAX_STATE_BYTES:
            msg = "longer than any row"
            raise ValueError(msg)
        local = _LOCAL_LEAST + (length - _LOCAL_LEAST) % (PAGE_SIZE - 4)
        if local > _LOCAL_MOST:
            local = _LOCAL_LEAST
        parts = [page[at : at + local]]
        following = page[at + local : at + local + 4]
        missing = length - local
        while missing > 0:
            start = (int.from_bytes(following, "big") - 1) * PAGE_SIZE
            if start < 0 or start >= len(self._data):
                msg = "its rest is gone"
                raise ValueError(msg)
            following = self._data[start : start + 4]
            parts.append(self._data[start + 4 : start + 4 + min(missing, PAGE_SIZE - 4)])
            missing -= PAGE_SIZE - 4
        return b"".join(parts)


def _record(payload: bytes) -> list[Value]:
    """Take a record apart; raises IndexError or ValueError if it is none."""
    end, at = _varint(payload, 0)
    body = end
    values: list[Value] = []
    while at < end:
        kind, at = _varint(payload, at)
        size = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind] if kind < 12 else (kind - 12) // 2
        raw = payload[body : body + size]
        if len(raw) < size:
            msg = "cut off"
            raise ValueError(msg)
        body += size
        if kind >= 12:
            values.append(raw.decode() if kind % 2 else raw)
        else:
            values.append(int.from_bytes(raw, "big", signed=True) if raw else None)
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        byte = data[at + i]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9
