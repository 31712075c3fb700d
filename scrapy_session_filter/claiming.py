"""The talk with a shared store about who may use which exit, once a second, off the reactor.

Claims are renewed at a third of their time. Exits that others are short of are given back, more are
claimed where a pool is short itself, and those that were lost are no longer used. While the store does
not answer nothing changes until the claims run out (`Tenure`): then every request waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.holdings import Share, take_share

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from scrapy_session_filter.pools import SitePools
    from scrapy_session_filter.stores.base import SessionStore
    from scrapy_session_filter.stores.thread import StoreThread
    from scrapy_session_filter.tenure import Tenure

logger = logging.getLogger("scrapy_session_filter")

EVERY = 1.0
"""Seconds between two rounds; another process has its share after two or three of them."""
MARGIN = 1 / 12
"""Share of a claim's time before its end in which no request is sent any more: those under way must
have come back, and clocks run a little differently."""
GRACE = 5.0
"""Seconds after a store was wiped in which nothing new is claimed: the others take back theirs."""
ALONE = 10.0
"""Seconds a claim counts longer where it cannot be renewed but nobody else is there to take it."""
MOST_CLAIMS = 20
"""Sites that are claimed for in one round."""


@dataclass(slots=True)
class _News:
    """What the store said in one round."""

    renewed: bool = False
    lost: dict[str, set[str]] = field(default_factory=dict)
    surplus: dict[str, int] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)
    generation: int = 0
    error: StoreError | None = None
    alone: bool = False


class ClaimKeeper:
    """Keeps the claims of all pools; ``count`` hears of events by name, and how many there were."""

    def __init__(
        self,
        pools: SitePools,
        store: SessionStore,
        thread: StoreThread,
        tenure: Tenure,
        *,
        clock: Callable[[], float],
        count: Callable[..., None],
    ) -> None:
        self._pools = pools
        self._store = store
        self._thread = thread
        self._tenure = tenure
        self._clock = clock
        self.count = count
        self._talking = False
        self._renew_at = -1.0
        self._generation = store.generation
        self._grace_until = -1.0
        self._failing = False
        if store.shared:
            tenure.until = -math.inf
            self._prolong(clock() + store.claim_seconds * (1 - MARGIN))

    def round(self) -> None:
        """Start a round, unless the last one still goes on."""
        if self._talking or not self._store.shared:
            return
        now = self._clock()
        renewing = now >= self._renew_at
        wishes = self._wishes(now, renewing=renewing) if now >= self._grace_until else {}
        sites = set(self._pools.holdings)
        call = partial(self._ask, self._generation, renewing, sites, wishes)
        asked = asyncio.wrap_future(self._thread.submit(call))
        self._talking = True
        asked.add_done_callback(partial(self._hear, now))

    def _wishes(self, now: float, *, renewing: bool) -> dict[str, list[str]]:
        """Return the sites that want more exits, each with the proxies to offer."""
        items = self._pools.holdings.items()
        found = ((site, part.wishes(now, renewing=renewing)) for site, part in items)
        wanted = ((site, offered) for site, offered in found if offered is not None)
        return dict(islice(wanted, MOST_CLAIMS))

    def _ask(
        self, known: int, renewing: bool, sites: set[str], wishes: Mapping[str, list[str]]
    ) -> _News:
        """Ask the store, in its thread.

        In one that was wiped since the ``known`` generation the exits of all others look free.
        """
        news, store = _News(), self._store
        try:
            if renewing:
                news.lost = store.renew()
                news.renewed = True
            for site in store.wanted() & sites:
                news.surplus[site] = store.surplus(site)
            for site, offered in wishes.items():
                if store.generation != known:
                    break
                share = take_share(store, site, offered)
                if store.generation != known:
                    store.release(site, share.exits)
                    break
                news.shares[site] = share
                if share.error is not None:
                    raise share.error
        except StoreError as error:
            news.error = error
            news.alone = store.alone()
        news.generation = store.generation
        return news

    def _hear(self, asked: float, done: asyncio.Future[_News]) -> None:
        self._talking = False
        if done.cancelled():
            return
        failure = done.exception()
        if failure is not None:
            logger.error("Claims could not be kept", exc_info=failure)
            self.count("store_failures")
            return
        news = done.result()
        for site, exits in news.lost.items():
            self._lose(site, exits)
        if news.renewed:
            self._prolong(asked + self._store.claim_seconds * (1 - MARGIN))
            self._renew_at = asked + self._store.claim_seconds / 3
        elif news.alone:
            self._prolong(self._clock() + ALONE)
        self._note(news.error)
        if news.generation != self._generation:
            self._generation = news.generation
            self._grace_until = asked + GRACE
            self._take_back()
        for site, share in news.shares.items():
            self._gain(site, share)
        for site, number in news.surplus.items():
            self._give_back(site, number)

    def _prolong(self, until: float) -> None:
        lapsed = self._clock() >= self._tenure.until
        self._tenure.until = max(until, self._tenure.until)
        if lapsed:
            for pool in self._pools:
                pool.ledger.fed()  # the site is not to blame for that time
                pool.waiters.came()

    def _gain(self, site: str, share: Share) -> None:
        """Take in exits that were claimed for a pool, if it is still there."""
        pools = self._pools
        holdings, pool = pools.holdings.get(site), pools.peek(site)
        if share.error is not None or holdings is None or pool is None:
            pools.outbox.release(site, share.exits)
            return
        now = self._clock()
        restored, useless = holdings.gain(share, now, time.time() - now)
        pools.restored.add(restored)
        pools.release(pool, useless)
        self.count("exits/gained", len(share.exits) - len(useless))

    def _give_back(self, site: str, number: int) -> None:
        """Give up to so many exits of a site back: those not in use."""
        pools = self._pools
        holdings, pool = pools.holdings.get(site), pools.peek(site)
        if holdings is None or pool is None or pools.outbox.failing:
            return
        exits = holdings.surrender(number, self._clock())
        pools.release(pool, exits)
        holdings.lose(exits)
        self.count("exits/given_back", len(exits))

    def _lose(self, site: str, exits: Collection[str]) -> None:
        self.count("exits/lost", len(exits))
        logger.warning("%s: %d exits were lost to other processes", site, len(exits))
        self._pools.lose(site, exits)

    def _note(self, error: StoreError | None) -> None:
        if error is not None:
            self.count("store_failures")
            if not self._failing:
                left = max(0.0, self._tenure.until - self._clock())
                logger.error(
                    "The session store fails (%s); the crawl goes on with what it holds, for %.0f s"
                    " unless no other process can be there",
                    error,
                    left,
                )
        elif self._failing:
            logger.warning("The session store answers again")
        self._failing = error is not None

    def lost_for(self, now: float) -> float:
        """Return for how many seconds requests have been waiting for the store; 0.0: they are not."""
        if not self._store.shared:
            return 0.0
        since = min(self._tenure.until, self._pools.unreadable_since + self._store.claim_seconds)
        return max(0.0, now - since) if self._pools.asked > since else 0.0

    # -- a store that was wiped --------------------------------------------------------------------

    def _take_back(self) -> None:
        """Claim again what this process held in a store that lost its contents, and save it all."""
        held = {site: holdings.exits for site, holdings in self._pools.holdings.items()}
        taking = asyncio.wrap_future(self._thread.submit(partial(self._claim_again, held)))
        taking.add_done_callback(partial(self._taken_back, held))

    def _claim_again(self, held: Mapping[str, set[str]]) -> dict[str, set[str]]:
        for site, exits in held.items():
            while exits - self._store.held(site) and self._store.claim(site, exits).exits:
                pass
        return {site: self._store.held(site) for site in held}

    def _taken_back(
        self, held: Mapping[str, set[str]], done: asyncio.Future[dict[str, set[str]]]
    ) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._generation = -1  # the next round tries again
            self._note(error if isinstance(error, StoreError) else StoreError(str(error)))
            return
        for site, kept in done.result().items():
            lost = held[site] - kept
            if lost:
                self._lose(site, lost)
        for pool in self._pools:
            pool.roster.changed.update(pool.sessions.values())
            if pool.proxies is not None:
                pool.proxies.touch()
        self._pools.endpoint_health.touch()
