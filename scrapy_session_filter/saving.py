"""When the pools are saved."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy_session_filter.outbox import Outbox
    from scrapy_session_filter.pools import SitePools

URGENT = 0.1
"""Seconds until a rest or a retirement is saved."""


class Saver:
    """Collects what changed and has it written.

    While the store fails nothing more is collected: what changes meanwhile waits in the pools, so
    a long outage takes no memory.
    """

    def __init__(self, pools: SitePools, outbox: Outbox) -> None:
        self._pools = pools
        self._outbox = outbox
        self._urgent: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """Save within `URGENT` seconds."""
        if self._urgent is None:
            loop = asyncio.get_running_loop()
            self._urgent = loop.call_later(URGENT, self._on_urgent)

    def _on_urgent(self) -> None:
        self._urgent = None
        self.save()

    def save(self) -> None:
        """Start to save what changed."""
        if not self._outbox.failing:
            self._outbox.write(self._pools.changes())
        self._outbox.send()

    async def finish(self) -> None:
        """Save the rest; for the end of a crawl."""
        self._collect_rest()
        await self._outbox.finish()

    def finish_now(self) -> None:
        """Save the rest from the calling thread; for the end of a process."""
        self._collect_rest()
        self._outbox.finish_now()

    def _collect_rest(self) -> None:
        if self._urgent is not None:
            self._urgent.cancel()
            self._urgent = None
        self._outbox.write(self._pools.changes())
