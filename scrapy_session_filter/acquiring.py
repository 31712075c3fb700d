"""Getting a lease for a request: at once, after a wait within bounds, or not now."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import SessionFilterSessionGone
from scrapy_session_filter.refusals import IgnoredSessionGone
from scrapy_session_filter.tracking import OPTIONAL, PIN

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_session_filter.extension import SessionFilterExtension
    from scrapy_session_filter.pool import SessionPool
    from scrapy_session_filter.session import Lease
    from scrapy_session_filter.tracking import Track

BRIEF = 0.25
"""Seconds a request is held when too many wait already: a scheduler that would hand it out again at
once must not spin."""


class Acquirer:
    """Acquires leases for the requests of a crawl."""

    def __init__(self, extension: SessionFilterExtension) -> None:
        self._extension = extension
        self._settings = extension.settings
        self._brief = min(BRIEF, extension.settings.wait_timeout)

    async def acquire(self, request: Request, track: Track, pool: SessionPool) -> Lease | None:
        """Return a lease, or None where the request has to go back to the scheduler."""
        extension = self._extension
        while True:
            pin = None if request.meta.get(PIN) is None else str(request.meta[PIN])
            # A page that stays for a renewal is pinned by us, unless it was by the user before.
            track.pinned = pin is not None and (track.pinned or not track.stays)
            try:
                got = self._ask(track, pool, pin)
                if not isinstance(got, float):
                    return got
                if extension.closing:
                    return await self._wait_on(track, pool, pin) if track.inline else None
                extension.count("waits")
                if pin is not None:
                    self._check_patience(pin, track, pool)
                return await self._wait(track, pool, pin)
            except SessionFilterSessionGone as gone:
                if request.meta.get(OPTIONAL) or (track.stays and not track.pinned):
                    track.stays = False
                    del request.meta[PIN]
                    continue
                with extension.pools.keep(pool.site):
                    may_come = await self._may_come(gone.session_id, track, pool)
                if not may_come:
                    extension.count("sessions_gone")
                    raise IgnoredSessionGone(gone.session_id, gone.site) from None
                if extension.closing or not track.inline:
                    return None

    def _ask(self, track: Track, pool: SessionPool, pin: str | None) -> Lease | float:
        if pin is None:
            return pool.try_acquire(attempt=track.attempts, avoid=track.avoid)
        return pool.acquire_pinned(pin, attempt=track.attempts)

    async def _may_come(self, pin: str, track: Track, pool: SessionPool) -> bool:
        """Wait a while for a session that another process has: it may come here, or end there."""
        if not await self._extension.pools.is_away(pool, pin):
            return False
        try:
            self._check_patience(pin, track, pool)
        except SessionFilterSessionGone:
            return False
        if not self._extension.closing:
            self._extension.count("waits")
            await self.pause(track)
        return True

    async def pause(self, track: Track) -> None:
        """Wait before a request asks again, or goes back, for what only the store can bring."""
        if self._is_crowded(track):
            await asyncio.sleep(self._brief)
            return
        with self._extension.turns.wait():
            await asyncio.sleep(self._settings.wait_timeout)

    def _is_crowded(self, track: Track) -> bool:
        """Return whether too many wait already; one without a scheduler behind it waits all the same."""
        return self._extension.turns.crowded and not track.inline

    def _check_patience(self, pin: str, track: Track, pool: SessionPool) -> None:
        now = time.time()  # a pin may wait in the scheduler's queue over a restart
        if track.asked is None:
            track.asked = now
        elif 0 < self._settings.exhausted_timeout < now - track.asked:
            raise SessionFilterSessionGone(pin, pool.site)

    async def _wait(self, track: Track, pool: SessionPool, pin: str | None) -> Lease | None:
        """Wait up to ``WAIT_TIMEOUT``; where no scheduler stands behind it, until there is a lease."""
        extension = self._extension
        if self._is_crowded(track):
            if pin is None or not extension.turns.has_queue:
                await asyncio.sleep(self._brief)
            return None
        with extension.turns.wait():
            while True:
                lease = await pool.acquire(
                    timeout=self._settings.wait_timeout,
                    attempt=track.attempts,
                    avoid=track.avoid,
                    pin=pin,
                )
                if lease is not None:
                    return lease
                if track.avoid and pool.is_hopeless(track.avoid):
                    track.avoid = []  # it has failed on all there are: else it would wait for ever
                if not track.inline or pool.given_up:
                    return None
                if extension.closing:
                    return await self._wait_on(track, pool, pin)

    async def _wait_on(self, track: Track, pool: SessionPool, pin: str | None) -> Lease | None:
        """Wait while the spider closes, as long as requests come back: no scheduler keeps this one.

        The items of media files are finished before a spider closes. It has to look by itself: nobody
        is woken any more.
        """
        patience = time.monotonic() + self._settings.wait_timeout
        with self._extension.pools.keep(pool.site):
            while time.monotonic() < patience and not (self._extension.ended or pool.given_up):
                got = self._ask(track, pool, pin)
                if not isinstance(got, float):
                    return got
                if pool.in_flight:
                    patience = time.monotonic() + self._settings.wait_timeout
                await asyncio.sleep(min(got, self._brief))
        return None
