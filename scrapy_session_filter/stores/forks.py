"""What becomes of open stores when their process forks.

A connection must not be used on both sides. The fork waits for calls under way, so that no
transaction is open in the child; there the store lets go of it, and of the lock that shows the
parent to be alive.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    import threading


class Forkable(Protocol):
    """A store that must not be carried into a child process."""

    lock: threading.Lock

    def forked(self) -> None:
        """Let go of everything, in the child."""


_open: WeakSet[Forkable] = WeakSet()
_locked: list[Forkable] = []


def survive_forks(store: Forkable) -> None:
    """Keep a store usable in this process and unusable in children of it."""
    _open.add(store)


def _before() -> None:
    for store in list(_open):
        store.lock.acquire()
        _locked.append(store)


def _in_parent() -> None:
    while _locked:
        _locked.pop().lock.release()


def _in_child() -> None:
    for store in _locked:
        store.forked()
    _in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
