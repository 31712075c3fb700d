"""Those who wait for a session: a line of tasks, and the request queue, which holds the site's requests.

The first in line who can use what there is, is served first.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    woken: asyncio.Future[None]
    pin: str | None
    avoid: Collection[str]

    def can_use(self, session_id: str) -> bool:
        return self.pin in (None, session_id) and session_id not in self.avoid


class Waiters:
    """Tasks, each asleep until it is woken or its time is over, and until when the queue waits.

    ``on_ready`` is called where the queue need not wait any longer.
    """

    def __init__(self, on_ready: Callable[[], None]) -> None:
        self.held_until = -math.inf  #: when the queue's requests may have a session
        self._on_ready = on_ready
        self._line: list[_Waiter] = []
        self.count = 0  #: how many wait
        self.closed = False

    async def sleep(
        self, seconds: float, *, pin: str | None = None, avoid: Collection[str] = ()
    ) -> None:
        """Wait in line for at most ``seconds``, for session ``pin`` or any that is not in ``avoid``."""
        waiter = _Waiter(asyncio.get_running_loop().create_future(), pin, avoid)
        self._line.append(waiter)
        self.count += 1
        try:
            await asyncio.wait((waiter.woken,), timeout=seconds)
        finally:
            self.count -= 1
            self._line.remove(waiter)

    def hold(self, until: float) -> None:
        """Let the queue keep the site's requests until then, or until one may have a session."""
        self.held_until = until

    def came(self, session_id: str | None = None) -> None:
        """Note that this session may be had, or that asking may help: the queue need not wait."""
        if self.held_until > -math.inf:
            self.held_until = -math.inf
            self._on_ready()
        if self.count:
            self.wake_one(session_id)

    def wake_one(self, session_id: str | None = None) -> None:
        """Wake the first in line who is asleep and can use this session; None: the first at all."""
        for waiter in self._line:
            if not waiter.woken.done() and (session_id is None or waiter.can_use(session_id)):
                waiter.woken.set_result(None)
                return

    def close(self) -> None:
        """Wake everyone; nobody is to wait any more."""
        self.closed = True
        for waiter in self._line:
            if not waiter.woken.done():
                waiter.woken.set_result(None)
