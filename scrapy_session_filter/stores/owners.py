"""Which processes use a store file now, shown by locks that the kernel frees when they die.

Each owner keeps a file of its own locked in a directory beside the store. A killed owner is
therefore known to be dead at once; one that is merely stopped still counts as alive.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OPENING = "opening.lock"
_POLL = 0.02  # seconds between two looks at a lock that is taken

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, *, shared: bool) -> bool:
        del shared  # Windows has none: two processes that look at once see each other
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(fd: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Owners:
    """The owners of one store file, and this process's place among them.

    Raises `OSError` where the directory cannot be used.
    """

    def __init__(self, store: Path) -> None:
        self.directory = store.with_name(store.name + ".owners")
        self.id = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._fd: int | None = None

    @contextmanager
    def opening(self, timeout: float) -> Iterator[None]:
        """Be the only one who opens, repairs or creates the store.

        Raises `StoreError` when another is at it for longer than ``timeout`` seconds.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        fd = _open(self.directory / _OPENING)
        try:
            deadline = time.monotonic() + timeout
            while not _lock(fd, shared=False):
                if time.monotonic() > deadline:
                    msg = f"another process has been opening {self.directory} for {timeout:g} s"
                    raise StoreError(msg)
                time.sleep(_POLL)
            yield
        finally:
            os.close(fd)

    def join(self) -> None:
        """Become visible to others; to be called while `opening`."""
        path = self.directory / self.id
        if self._fd is not None and path.exists():
            return
        self._fd = _open(path)
        _lock(self._fd, shared=False)

    def others(self) -> set[str]:
        """Return the ids of all other owners that are alive."""
        return {path.name for path in self._files() if _is_locked(path)}

    def sweep(self) -> None:
        """Delete what dead owners left; to be called while `opening`."""
        for path in self._files():
            if not _is_locked(path):
                path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Be gone; may be called twice, and in a forked child to let go of the parent's lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            if self.id.startswith(f"{os.getpid()}-"):
                (self.directory / self.id).unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [path for path in self.directory.glob("*-*") if path.name != self.id]


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _lock(fd, shared=True)
    finally:
        os.close(fd)
