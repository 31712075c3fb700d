"""Which sites' requests may leave the scheduler's queue, and how many wait in the middleware."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scrapy_session_filter.pool import SessionPool
    from scrapy_session_filter.pools import SitePools

ON_THE_WAY = 0.25
"""Seconds within which a request that was handed out to wait has come to where it waits."""


class Turns:
    """What the queue and the middleware tell each other, over all sites of a crawl.

    A request that waits in the middleware holds a place of CONCURRENT_REQUESTS, so at most ``most``
    do; the queue keeps the others. ``clock`` is that of the pools.
    """

    def __init__(self, pools: SitePools, clock: Callable[[], float], most: int) -> None:
        self.has_queue = False  #: the scheduler holds its requests in queues of ours
        self.waiting = 0  #: requests that wait for a session in the middleware
        self._most = most
        self._pools = pools
        self._clock = clock

    @property
    def crowded(self) -> bool:
        """Whether as many requests wait in the middleware as may."""
        return self.waiting >= self._most

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Count a request as one that waits, while it does."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def load_of(self, site: str, pin: str | None = None) -> tuple[float, int]:
        """Return for how many seconds the queue should keep a site's requests, and how many are out.

        With ``pin``, those that are pinned to this session and were given back. One request of a
        site that has no session ready is handed out all the same: it waits in the middleware and is
        off as soon as there is one. For that the seconds are negative.
        """
        pool = self._pools.peek(site)
        if pool is None:
            return self._pools.load_wait(site), 0
        wait = pool.next_chance() if pin is None else pool.pin_chance(pin)
        if wait and not pool.given_up and self._may_wait(pool):
            wait = -wait
        return wait, pool.in_flight

    def _may_wait(self, pool: SessionPool) -> bool:
        on_the_way = self._clock() - pool.handed_out < ON_THE_WAY
        return not (pool.waiters.count or on_the_way or self.crowded)

    def handed_out(self, site: str) -> None:
        """Note that the queue let a request of a site go to wait for a session."""
        pool = self._pools.peek(site)
        if pool is not None:
            pool.handed_out = self._clock()
