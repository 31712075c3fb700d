"""Those who wait for a session, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Waiters:
    """A line of tasks, each asleep until it is woken or its time is over."""

    def __init__(self) -> None:
        self._line: deque[asyncio.Future[None]] = deque()
        self.count = 0  #: how many wait
        self.closed = False

    async def sleep(self, seconds: float) -> None:
        """Wait in line for at most ``seconds``."""
        waiter = asyncio.get_running_loop().create_future()
        self._line.append(waiter)
        self.count += 1
        try:
            await asyncio.wait_for(waiter, seconds)
        except asyncio.TimeoutError:
            with suppress(ValueError):
                self._line.remove(waiter)
        finally:
            self.count -= 1

    def wake_one(self) -> None:
        """Wake the first in line."""
        while self._line:
            waiter = self._line.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def close(self) -> None:
        """Wake everyone; nobody is to wait any more."""
        self.closed = True
        while self._line:
            self.wake_one()
