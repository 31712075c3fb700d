"""The file of a `SQLiteStore`: where it may lie, who may read it, and its copy `.bak`."""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.stores.base import SETTING
from scrapy_session_filter.stores.sqlite_schema import PAGE_SIZE, migrate

logger = logging.getLogger(__name__)

_NETWORK = re.compile(
    r"(nfs4?|cifs|smb\w*|afs|9p|ceph|lustre|beegfs|glusterfs|fuse\.(sshfs|glusterfs|s3fs|rclone))\Z"
)


def locate(path: str | os.PathLike[str]) -> Path:
    """Return the file that a path stands for, links resolved, in a directory that exists.

    Missing directories are made, for the owner's eyes only and with a ``.gitignore``, so that
    credentials are not committed. Raises `ConfigurationError` where no store file can be.
    """
    try:
        file = Path(path).expanduser().resolve()
        _make_directory(file.parent)
        _check(file)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise _unusable(path, f"a path that can be used ({_reason(error)})") from error
    return file


def _unusable(path: str | os.PathLike[str], expected: str) -> ConfigurationError:
    return ConfigurationError(SETTING, f"sqlite:{os.fspath(path)}", expected)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _make_directory(directory: Path) -> None:
    if directory.exists():
        return
    _make_directory(directory.parent)
    directory.mkdir(mode=0o700)
    ignore = directory / ".gitignore"
    ignore.touch(mode=0o600)
    ignore.write_text("*\n", encoding="ascii")


def _check(file: Path) -> None:
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise _unusable(file, "a file in a directory that can be written")
    if not file.exists():
        return
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode):
        raise _unusable(file, f"a regular file, not {_kind(mode)}")
    if not os.access(file, os.R_OK | os.W_OK):
        raise _unusable(file, "a file that can be read and written")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def make_private(file: Path) -> None:
    """Take a file's rights from group and others, with a warning if they had any."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077 and os.name == "posix":
        file.chmod(0o600)
        logger.warning(
            "%s holds credentials and was open to others (mode %03o); it is 600 now", file, mode
        )


def warn_of_network(file: Path, mounts: Path = Path("/proc/mounts")) -> None:
    """Warn if the file lies on a network file system, whose locks SQLite cannot trust."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # only Linux has it
        return
    best, kind = "", ""
    for line in lines:
        _, where, name, *_ = line.split(" ")
        where = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), where)
        if len(where) >= len(best) and file.is_relative_to(where):
            best, kind = where, name
    if _NETWORK.match(kind):
        logger.warning(
            "%s lies on a network file system (%s): its locks are not reliable and the store may"
            " be damaged; use a local path, or redis://",
            file,
            kind,
        )


def connect(file: Path, timeout: float) -> sqlite3.Connection:
    """Open a store file for durable writes; waits at most ``timeout`` seconds for other writers."""
    db = sqlite3.connect(file, timeout=timeout, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = TRUNCATE")
        db.execute("PRAGMA synchronous = FULL")
        # What is removed is overwritten: no secrets stay behind, and no retired session that a
        # salvage could find.
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        db.close()
        raise
    return db


def create(file: Path) -> None:
    """Create an empty store at a path where none is; it is either there and whole, or not there."""
    new = fresh(file)
    new.replace(file)
    sync_directory(file.parent)


def fresh(file: Path) -> Path:
    """Return a new empty store file beside ``file``, under a temporary name."""
    new = file.with_name(file.name + ".new")
    for leftover in (new, new.with_name(new.name + "-journal")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        migrate(db)
    return new


def back_up(db: sqlite3.Connection, file: Path) -> None:
    """Copy a sound store to ``<file>.bak``; a failure is a warning and keeps the last copy.

    No other connection of this process may be open: closing a file ends all locks that the process
    has on it.
    """
    new = file.with_name(file.name + ".bak.new")
    try:
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            db.execute("BEGIN")
            try:
                db.execute("SELECT value FROM meta").fetchone()  # while it is read none may write
                shutil.copyfile(file, new)  # a fourth of what SQLite's own backup costs
            finally:
                db.execute("ROLLBACK")
            os.fsync(fd)
        finally:
            os.close(fd)
        new.replace(backup_of(file))
        sync_directory(file.parent)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        logger.warning("No backup of %s could be made: %s", file, error)


def read_through(file: Path) -> None:
    """Have the system read a file in one go; SQLite would ask for each page, wherever it lies."""
    some = bytearray(1 << 18)
    with suppress(OSError), file.open("rb", buffering=0) as opened:  # SQLite tells of it
        while opened.readinto(some):
            pass


def backup_of(file: Path) -> Path:
    """Return the path of a store's backup."""
    return file.with_name(file.name + ".bak")


def sync_directory(directory: Path) -> None:
    """Make a rename durable, where directories can be synced."""
    if os.name == "posix":
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
