"""The leases that are out: each ends, whatever becomes of its request."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from scrapy import Request

    from scrapy_session_filter.pool import SessionPool
    from scrapy_session_filter.proxies import ProxyEndpoint
    from scrapy_session_filter.session import Lease


class Held(NamedTuple):
    """A lease with its pool and the request that holds it; one that is lost frees its session.

    ``endpoint`` is the proxy that the request was given.
    """

    lease: Lease
    pool: SessionPool
    request: weakref.ref[Request]
    endpoint: ProxyEndpoint | None


class HeldLeases:
    """Leases by id; ``on_lost`` is told the id of one whose request vanished without an answer."""

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self._held: dict[str, Held] = {}
        self._on_lost = on_lost

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, lease_id: object) -> bool:
        return lease_id in self._held

    def hold(self, lease: Lease, pool: SessionPool, request: Request) -> None:
        """Keep a lease until it is let go, or its request vanishes."""
        reference = weakref.ref(request, partial(self._lost, lease.id))
        self._held[lease.id] = Held(lease, pool, reference, lease.session.endpoint)

    def get(self, lease_id: str | None) -> Held | None:
        """Return a lease that is out."""
        return None if lease_id is None else self._held.get(lease_id)

    def let_go(self, lease_id: str | None) -> Held | None:
        """Return a lease that is out, and hold it no longer: it is the caller's to end."""
        return None if lease_id is None else self._held.pop(lease_id, None)

    def sweep(self, active: Collection[Request]) -> None:
        """End leases of requests that have left the downloader (``active`` are in it) past us.

        Where another middleware's process_response raises, no middleware hears of it.
        """
        for lease_id, held in list(self._held.items()):
            if held.request() not in active:
                self._lost(lease_id, None)

    def end_all(self) -> None:
        """End what is left when the spider closes."""
        for held in self._held.values():
            held.pool.abandon(held.lease)
        self._held.clear()

    def _lost(self, lease_id: str, _: object) -> None:
        held = self._held.pop(lease_id, None)
        if held is not None:
            self._on_lost(lease_id)
            held.pool.abandon(held.lease)
