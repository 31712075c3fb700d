"""What is on its way to the store: in order, each thing until it has got there."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from scrapy_session_filter.stores.base import Batch, SessionStore
    from scrapy_session_filter.stores.thread import StoreThread

logger = logging.getLogger("scrapy_session_filter")

COMPLAIN_AGAIN = 600.0
"""Seconds between two log lines about a store that still cannot be written."""
LAST_SAVE = 5.0
"""Seconds the process may take at its end for the last save."""


class Outbox:
    """Sends changes and released claims to the store, from its thread.

    What failed is tried again before anything newer, so nothing is lost while a disk is full or a
    server away, and no exit is given back before all that was learnt on it is written.
    """

    def __init__(
        self, store: SessionStore, thread: StoreThread, clock: Callable[[], float]
    ) -> None:
        self.store = store
        self.thread = thread
        self._clock = clock
        self._calls: deque[Callable[[], None]] = deque()
        self._sending = False
        self._complained = -COMPLAIN_AGAIN
        self.failing = False  #: whether the last attempt failed

    def write(self, batch: Batch) -> None:
        """Take in changes; an empty batch is left out."""
        if batch:
            self._calls.append(partial(self.store.apply, batch))

    def release(self, site: str, exits: Collection[str]) -> None:
        """Take in that claims are to be given back."""
        if exits:
            self._calls.append(partial(self.store.release, site, exits))

    def send(self) -> None:
        """Start to send what is there, unless that is under way."""
        if self._calls and not self._sending:
            self._sending = True
            done = asyncio.wrap_future(self.thread.submit(self._work))
            done.add_done_callback(self._sent)

    def _work(self) -> None:
        while self._calls:
            self._calls[0]()
            self._calls.popleft()

    def _sent(self, done: asyncio.Future[None]) -> None:
        self._sending = False
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._complain(error)
            return
        if self.failing:
            logger.warning("The store can be written again; nothing was lost")
        self.failing = False
        self.send()  # what came in at the last moment

    def _complain(self, error: BaseException) -> None:
        self.failing = True
        if self._clock() - self._complained < COMPLAIN_AGAIN:
            return
        self._complained = self._clock()
        logger.error(
            "The sessions cannot be saved (%s); saving is tried again",
            error,
            exc_info=None if isinstance(error, StoreError) else error,
        )

    async def finish(self) -> None:
        """Send the rest, and wait for that no longer than `LAST_SAVE`."""
        sending = asyncio.wrap_future(self.thread.submit(self._work))
        try:
            await asyncio.wait_for(sending, LAST_SAVE)
        except (StoreError, asyncio.TimeoutError) as error:
            self._give_up(error)

    def finish_now(self) -> None:
        """Send the rest from the calling thread, where no loop runs any more."""
        try:
            self.thread.now(self._work, patience=LAST_SAVE)
        except (StoreError, TimeoutError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._complained = -COMPLAIN_AGAIN
        self._complain(error if str(error) else TimeoutError(f"no answer in {LAST_SAVE:g} s"))
