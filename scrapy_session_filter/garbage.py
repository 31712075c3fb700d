"""The garbage collector, kept away from sessions that come in by the ten thousand.

It looks through all that is alive, again and again as more comes in; with 100,000 sessions one look
stops the whole process for a third of a second.
"""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 5000
"""Sessions that are set aside; a look through fewer takes a few milliseconds."""

_lock = threading.Lock()
_loads = 0
_enabled = False
_frozen = False
_holders: WeakSet[object] = WeakSet()  # crawls with sessions that are set aside


@contextmanager
def set_aside(sessions: int, holder: object = None) -> Iterator[None]:
    """While so many come in, if they are `MANY`, collect nothing, and leave them alone from then on.

    What is left alone is freed as ever when nothing refers to it any more; only what refers to
    itself in a circle waits until the ``holder``, and every other one, wants to `look_again`.
    """
    if sessions < MANY:
        yield
        return
    _begin(holder)
    try:
        yield
    finally:
        _end()


def look_again(holder: object) -> None:
    """Let the collector look through everything again, after much of a holder's is gone.

    It can look at all or at nothing: while another crawl of this process holds something, at nothing.
    """
    global _frozen  # noqa: PLW0603 - there is one collector in a process
    with _lock:
        _holders.discard(holder)
        if (
            _frozen and not _holders
        ):  # else what the user's own program has set aside is none of our business
            _frozen = False
            gc.unfreeze()


def _begin(holder: object) -> None:
    global _loads, _enabled  # noqa: PLW0603 - there is one collector in a process
    with _lock:
        if holder is not None:
            _holders.add(holder)
        if not _loads:
            _enabled = gc.isenabled()
            gc.disable()
        _loads += 1


def _end() -> None:
    global _loads, _frozen  # noqa: PLW0603 - see above
    with _lock:
        _loads -= 1
        if _loads or not _enabled:
            return
        if hasattr(gc, "freeze"):  # PyPy has none
            gc.freeze()
            _frozen = True
        gc.enable()
