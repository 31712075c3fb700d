"""When the pools are saved, and what happens when that fails."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_session_filter.pools import SitePools
    from scrapy_session_filter.stores.base import Batch, SessionStore
    from scrapy_session_filter.stores.thread import StoreThread

logger = logging.getLogger("scrapy_session_filter")

URGENT = 0.1
"""Seconds until a rest or a retirement is saved."""
COMPLAIN_AGAIN = 600.0
"""Seconds between two log lines about a store that still cannot be written."""
LAST_SAVE = 5.0
"""Seconds the process may take at its end for the last save."""


class Saver:
    """Writes what changed, in order, each batch exactly once; keeps what could not be written.

    A batch that failed is tried again before any newer one, so nothing is lost while a disk is full
    or a server away, and the crawl goes on.
    """

    def __init__(
        self,
        pools: SitePools,
        store: SessionStore,
        thread: StoreThread,
        clock: Callable[[], float],
    ) -> None:
        self._pools = pools
        self._store = store
        self._thread = thread
        self._clock = clock
        self._unsaved: deque[Batch] = deque()
        self._saving = False
        self._urgent: asyncio.TimerHandle | None = None
        self._complained = -COMPLAIN_AGAIN
        self.failing = False

    def soon(self) -> None:
        """Save within `URGENT` seconds."""
        if self._urgent is None:
            loop = asyncio.get_running_loop()
            self._urgent = loop.call_later(URGENT, self._on_urgent)

    def _on_urgent(self) -> None:
        self._urgent = None
        self.save()

    def save(self) -> None:
        """Start to save what changed, unless that is under way."""
        if self._saving:
            return
        self._collect()
        if self._unsaved:
            self._saving = True
            done = asyncio.wrap_future(self._thread.submit(partial(self._apply)))
            done.add_done_callback(self._saved)

    def _collect(self) -> None:
        batch = self._pools.changes()
        if batch:
            self._unsaved.append(batch)

    def _apply(self) -> None:
        while self._unsaved:
            self._store.apply(self._unsaved[0])
            self._unsaved.popleft()

    def _saved(self, done: asyncio.Future[None]) -> None:
        self._saving = False
        error = done.exception()
        if error is None:
            if self.failing:
                logger.warning("The store can be written again; nothing was lost")
            self.failing = False
        else:
            self._complain(error)

    def _complain(self, error: BaseException) -> None:
        self.failing = True
        if self._clock() - self._complained < COMPLAIN_AGAIN:
            return
        self._complained = self._clock()
        logger.error(
            "The sessions cannot be saved (%s); the crawl goes on, and saving is tried again",
            error,
            exc_info=None if isinstance(error, StoreError) else error,
        )

    def finish(self) -> bool:
        """Save the rest from the calling thread; for the end of a crawl or of the process."""
        if self._urgent is not None:
            self._urgent.cancel()
            self._urgent = None
        self._collect()
        try:
            self._thread.now(self._apply, patience=LAST_SAVE)
        except (StoreError, TimeoutError) as error:
            self._complained = -COMPLAIN_AGAIN
            self._complain(error)
            return False
        return True
