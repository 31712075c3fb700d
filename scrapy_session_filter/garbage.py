"""The garbage collector, kept away from what stays for the whole crawl.

It looks through all that is alive, again and again: modules, settings, rules and saved sessions,
none of which can be garbage before the crawl ends. In a small crawl that is a tenth of its CPU; with
100,000 sessions one look stops the whole process for a third of a second. What is set aside
(`gc.freeze`) is freed as ever when nothing refers to it any more; only what refers to itself in a
circle waits until the crawl has ended.

Up to Python 3.12 new objects are looked through after every 700, which is less than a page makes, so
that hardly any can be gone by then; since 3.13 after 2000. A crawl has the newer default.
"""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet, ref

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 5000
"""Sessions that are set aside when they come in; a look through fewer takes a few milliseconds."""

OLDER, NEWER = (700, 10, 10), (2000, 10, 10)
"""`gc.get_threshold` as Python up to 3.12 has it, and since."""

_lock = threading.Lock()
_crawls: WeakSet[object] = WeakSet()
_last: ref[object] | None = None
_loads = 0
_enabled = False
_frozen = False
_spared = False


def crawl_is_made() -> None:
    """Collect what is left of the last crawl, unless another one runs: else it would be set aside."""
    if not _crawls and _last is not None and _last() is not None:
        gc.collect()


def crawl_begins(crawl: object) -> None:
    """Set aside what is alive by now, until the crawl ends, unless another one runs.

    A program that has set its own things aside is left alone.
    """
    with _lock:
        alone = not _crawls
        _crawls.add(crawl)
    if alone:
        _freeze()
        _look_less_often()


def crawl_ended(crawl: object) -> None:
    """Let the collector look through everything again after the last crawl; a second time is fine."""
    global _last  # noqa: PLW0603 - there is one collector in a process
    with _lock:
        if crawl not in _crawls:
            return
        _crawls.discard(crawl)
        _last = ref(crawl)
        alone = not _crawls
    if alone:
        look_again()
        _look_as_often_as_before()


@contextmanager
def set_aside(sessions: int) -> Iterator[None]:
    """While so many come in, if they are `MANY`, collect nothing; the crawl leaves them alone, too."""
    if sessions < MANY:
        yield
        return
    _begin()
    try:
        yield
    finally:
        _end()


def look_again() -> None:
    """Let the collector look through everything again, after much of it is gone.

    It looks at all or at nothing: beside another crawl, what is gone waits with the rest.
    """
    global _frozen  # noqa: PLW0603 - see above
    with _lock:
        if _frozen and len(_crawls) <= 1:
            _frozen = False
            gc.unfreeze()


def _freeze() -> None:
    """Set all aside, unless the program has done so: it could not be told apart again."""
    global _frozen  # noqa: PLW0603 - see above
    if hasattr(gc, "freeze") and (_frozen or not gc.get_freeze_count()):  # PyPy has none
        gc.freeze()
        _frozen = True


def _look_less_often() -> None:
    """Take the newer default in place of the older one; a threshold of the program's own stays."""
    global _spared  # noqa: PLW0603 - see above
    if gc.get_threshold() == OLDER:
        gc.set_threshold(*NEWER)
        _spared = True


def _look_as_often_as_before() -> None:
    global _spared  # noqa: PLW0603 - see above
    if _spared and gc.get_threshold() == NEWER:
        gc.set_threshold(*OLDER)
    _spared = False


def _begin() -> None:
    global _loads, _enabled  # noqa: PLW0603 - see above
    with _lock:
        if not _loads:
            _enabled = gc.isenabled()
            gc.disable()
        _loads += 1


def _end() -> None:
    global _loads  # noqa: PLW0603 - see above
    with _lock:
        _loads -= 1
        if _loads or not _enabled:
            return
        if _crawls:  # else nobody would ever ask for them again
            _freeze()
        gc.enable()
