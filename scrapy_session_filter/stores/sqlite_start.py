"""How a store file is looked at, repaired, copied and cleared before a crawl works with it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import ConfigurationError, StoreError
from scrapy_session_filter.stores import sqlite_file
from scrapy_session_filter.stores.base import MAX_SESSIONS, SETTING
from scrapy_session_filter.stores.salvage import repair
from scrapy_session_filter.stores.sqlite_schema import (
    DAMAGE,
    find_damage,
    is_foreign,
    is_trouble,
    migrate,
    read_header,
    refuse_newer,
    refuse_older,
    version_in_use,
    version_of,
)

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from scrapy_session_filter.stores.owners import Owners


def prepare(file: Path, *, alone: bool) -> None:
    """See to it that there is a file that can be trusted; ``alone``: nobody else has it open.

    Raises `StoreVersionError` for a newer release's file, `ConfigurationError` for another
    program's, `StoreError` for one that an older release is using.
    """
    sqlite_file.warn_of_network(file)
    if not file.exists():
        sqlite_file.create(file)
        return
    if not alone:  # whoever came first has looked
        version = version_in_use(file)
        refuse_newer(file, version)
        refuse_older(file, version)
        return
    refuse_newer(file, version_of(file))
    if is_foreign(file):
        raise ConfigurationError(SETTING, f"sqlite:{file}", "a file that no other program uses")
    sqlite_file.make_private(file)
    damage = _look(file)
    if damage is not None:
        repair(file, damage)


def _look(file: Path) -> str | None:
    sqlite_file.read_through(file)
    try:
        with closing(sqlite_file.connect(file, timeout=1.0)) as db:
            return find_damage(db, read_header(file))
    except DAMAGE as error:
        if is_trouble(error):
            raise
        return str(error)


def clean_start(db: sqlite3.Connection, file: Path, owners: Owners) -> None:
    """Copy a sound file, lift it to the present schema, and clear what only concerned users before.

    Raises `StoreError` if it holds more sessions than one store may.
    """
    (count,) = db.execute("SELECT count(*) FROM sessions").fetchone()
    if count > MAX_SESSIONS:
        msg = f"{file} holds {count} sessions, at most {MAX_SESSIONS} are read"
        raise StoreError(msg)
    sqlite_file.back_up(db, file)
    migrate(db)
    owners.sweep()
    db.execute("BEGIN IMMEDIATE")
    for table in ("owners", "claims", "wants", "batches", "removed"):
        db.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
    db.execute("COMMIT")
