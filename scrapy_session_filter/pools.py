"""The pools of a crawl: one for each site, loaded when it is first asked for."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, OrderedDict
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from scrapy_session_filter import snapshot
from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.garbage import MANY, look_again, set_aside
from scrapy_session_filter.holdings import Holdings, take_share
from scrapy_session_filter.hook_errors import HookErrors
from scrapy_session_filter.policies import PolicyContext
from scrapy_session_filter.pool import SessionPool
from scrapy_session_filter.proxies import EndpointHealth, SiteProxies
from scrapy_session_filter.stores.base import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from random import Random

    from scrapy_session_filter.identities import IdentitySource
    from scrapy_session_filter.inits import SiteInits
    from scrapy_session_filter.outbox import Outbox
    from scrapy_session_filter.policies import Policy
    from scrapy_session_filter.proxies import ProxySource
    from scrapy_session_filter.session import Limits, Row, Session
    from scrapy_session_filter.tenure import Tenure
    from scrapy_session_filter.watcher import Watcher

logger = logging.getLogger("scrapy_session_filter")


LOAD_AGAIN = 1.0
"""Seconds until a site is asked for again that could not be loaded."""
AT_ONCE = 200
"""Sessions that are restored before others have their turn: a few milliseconds' worth."""
AWAY = 2.0
"""Seconds until it is looked again whether a pinned session of another process is here."""


class SitePools:
    """Makes, loads, saves and unloads pools, and moves exits to and from other processes.

    ``remember`` brings a session's cookies up to date before it is saved. At most ``max_sites`` pools
    are held; the longest unused one without requests makes room. ``holdings`` are the pools' parts in
    a shared store; ``unreadable_since`` is when a site could not be loaded and none was since, and
    infinity else.
    """

    def __init__(
        self,
        *,
        policy: type[Policy],
        context: dict[str, int],
        source: ProxySource,
        identities: IdentitySource,
        limits: Limits,
        max_sites: int,
        dry_run: bool,
        rng: Random,
        clock: Callable[[], float],
        watcher: Watcher,
        outbox: Outbox,
        tenure: Tenure,
        remember: Callable[[Session], None],
        inits: Callable[[SessionPool], SiteInits] | None = None,
    ) -> None:
        self.endpoint_health = EndpointHealth()
        self.restored = snapshot.Restored()
        self.holdings: dict[str, Holdings] = {}
        self.unreadable_since = math.inf
        self._lost_early: dict[str, set[str]] = {}  # while the site was being loaded
        self._load_at: dict[str, float] = {}  # when to try again what could not be loaded
        self._asked = -math.inf
        self._policy = policy
        self._context = context
        self._common: dict[str, Any] = {}  # what the policies of the sites tell each other
        self._source = source
        self._identities = identities
        self._limits = limits
        self._max_sites = max_sites
        self._dry_run = dry_run
        self._rng = rng
        self._clock = clock
        self._watcher = watcher
        self._store = outbox.store
        self._thread = outbox.thread
        self.outbox = outbox
        self._tenure = tenure
        self._remember = remember
        self._inits = inits
        self._pools: OrderedDict[str, SessionPool] = OrderedDict()  # the longest unused first
        #: sent off all at once, requests would have their answers come in bunches ever after
        self._one_by_one = asyncio.Lock()
        self._loading: dict[str, asyncio.Task[SessionPool]] = {}
        self._kept: Counter[str] = Counter()  # requests that are about to ask a pool, by site
        self._batches = 0
        self._errors = HookErrors(watcher.count)
        self._run = f"{time.time_ns():x}"

    def __iter__(self) -> Iterator[SessionPool]:
        return iter(list(self._pools.values()))

    def peek(self, site: str) -> SessionPool | None:
        """Return a site's pool if it is loaded."""
        return self._pools.get(site)

    def use(self, site: str) -> SessionPool | None:
        """Return a site's pool if it is loaded, and note that it is used; else `get` loads it."""
        pool = self._pools.get(site)
        if pool is not None:
            self._pools.move_to_end(site)
        return pool

    async def get(self, site: str) -> SessionPool:
        """Return a site's pool; the first time it is loaded from the store.

        Raises `StoreError` where the store cannot be read.
        """
        pool = self.use(site)
        if pool is not None:
            return pool
        task = self._loading.get(site)
        if task is None:
            task = self._loading[site] = asyncio.ensure_future(self._load(site))
            task.add_done_callback(lambda _: self._loading.pop(site, None))
        with self.keep(site):
            pool = await asyncio.shield(task)
            async with self._one_by_one:
                await asyncio.sleep(0)
        return pool

    @contextmanager
    def keep(self, site: str) -> Iterator[None]:
        """Leave a site's pool loaded: a lease of one that was unloaded would use what another has."""
        self._kept[site] += 1
        try:
            yield
        finally:
            self._kept[site] -= 1
            if not self._kept[site]:
                del self._kept[site]

    async def _load(self, site: str) -> SessionPool:
        self._asked = now = self._clock()
        offered = [e.key for e in self._source.endpoints() if not e.per_session]
        try:
            call = self._thread.submit(partial(take_share, self._store, site, offered))
            share = await asyncio.wrap_future(call)
            if share.error is not None:
                self.outbox.release(site, share.exits)
                raise share.error
        except StoreError:
            self.unreadable_since = min(self.unreadable_since, now)
            self._load_at[site] = self._clock() + LOAD_AGAIN
            raise
        self.unreadable_since = math.inf
        self._load_at.pop(site, None)
        endpoints = self._source.endpoints()
        pool = self._make(site)
        now = self._clock()
        offset = time.time() - now
        snapshot.restore_site(pool, share.state, now=now, wall_offset=offset)
        left = set(share.exits)
        restored = await self._restore(pool, share.rows, left, now, offset)
        if self._source.endpoints() is not endpoints:  # they changed meanwhile
            pool.update_proxies(self._source.endpoints())
        if restored:
            logger.info("%s: %s", site, restored)
        self.restored.add(restored)
        self._pools[site] = pool
        if self._store.shared:
            self.holdings[site] = holdings = Holdings(pool, self._rng)
            self.release(pool, holdings.admit(share, left, now))
            holdings.lose(self._lost_early.pop(site, set()))
        self._make_room()
        return pool

    async def _restore(
        self, pool: SessionPool, rows: list[Row], left: set[str], now: float, offset: float
    ) -> snapshot.Restored:
        """Take sessions in, a few at a time, and let go of their rows likewise."""
        restored = snapshot.Restored()
        rows.reverse()
        with set_aside(len(rows)):
            while rows:
                some = rows[: -AT_ONCE - 1 : -1]
                del rows[-AT_ONCE:]
                restored.add(
                    snapshot.restore_sessions(pool, some, left, now=now, wall_offset=offset)
                )
                await asyncio.sleep(0)
        return restored

    def load_wait(self, site: str) -> float:
        """Return for how many seconds not to ask for a site that could not be loaded."""
        return max(0.0, self._load_at.get(site, 0.0) - self._clock()) if self._load_at else 0.0

    def _make(self, site: str) -> SessionPool:
        proxies = None
        if not self._source.direct:
            proxies = SiteProxies(
                self._source.endpoints(),
                self.endpoint_health,
                self._rng,
                shared=self._store.shared,
            )
        context = PolicyContext(
            self._rng,
            gateway=proxies is None or not proxies.is_list,
            free_groups=tuple if proxies is None else proxies.free_groups,
            free=int if proxies is None else proxies.free,
            site=site,
            common=self._common,
            **self._context,
        )
        return SessionPool(
            site,
            policy=self._policy(context),
            proxies=proxies,
            endpoint_health=self.endpoint_health,
            headers=partial(self._identities.draw, self._rng),
            limits=self._limits,
            clock=self._clock,
            rng=self._rng,
            watcher=self._watcher,
            dry_run=self._dry_run,
            inits=self._inits,
            tenure=self._tenure,
        )

    def _make_room(self) -> None:
        if self.outbox.failing:
            return
        for site, pool in list(self._pools.items()):
            if len(self._pools) <= self._max_sites:
                return
            if pool.is_used or self._kept[site]:
                continue
            holdings = self.holdings.pop(site, None)
            exits = {s.exit for s in pool.sessions.values()} if holdings is None else holdings.exits
            self.release(pool, exits)
            for session in pool.sessions.values():
                self._watcher.gone(session)  # what it holds comes back with it from the store
            if len(pool.sessions) >= MANY:
                look_again()
            del self._pools[site]

    def release(self, pool: SessionPool, exits: Iterable[str]) -> None:
        """Give exits back, after all that was learnt on them is written."""
        exits = list(exits)
        if exits:
            self.outbox.write(self._batch([pool]))
            self.outbox.release(pool.site, exits)
            self.outbox.send()

    def update_proxies(self) -> None:
        """Hand the source's current proxies to all pools."""
        for pool in self:
            claimed = set() if pool.proxies is None else set(pool.proxies.claimed)
            pool.update_proxies(self._source.endpoints())
            if pool.site in self.holdings and pool.proxies is not None:
                self.holdings[pool.site].list_changed = True
                self.release(pool, claimed.difference(pool.proxies.claimed))

    def load_endpoint_health(self) -> None:
        """Take back the saved health of the proxies; called once, while the store is opened."""
        now = self._clock()
        for key, state in self._store.endpoint_states().items():
            self.endpoint_health.load(key, state, now=now, wall_offset=time.time() - now)

    def changes(self) -> Batch:
        """Return all that the store does not know yet; it is the caller's to apply."""
        return self._batch(self)

    def _batch(self, pools: Iterable[SessionPool]) -> Batch:
        offset = time.time() - self._clock()
        self._batches += 1
        batch = Batch(f"{self._run}-{self._batches}")
        for pool in pools:
            self._collect(pool, batch, offset)
        for key in self.endpoint_health.changed:
            batch.endpoints[key] = self.endpoint_health.dump(key, offset)
        self.endpoint_health.changed.clear()
        return batch

    def _collect(self, pool: SessionPool, batch: Batch, offset: float) -> None:
        """Put a pool's changes into a batch; where that fails they stay with the pool."""
        roster = pool.roster
        changed, removed = roster.changed.copy(), roster.removed
        try:
            for session in changed:
                self._remember(session)
            rows, gone = snapshot.take_changes(pool, offset)
            if rows or gone:
                batch.sites[pool.site] = snapshot.site_state(pool, offset)
        except Exception as error:  # noqa: BLE001 - the project's own policy may raise anything
            roster.changed.update(changed)
            roster.removed = removed
            text = f"{type(pool.policy).__name__} failed at a save: what it has waits for the next"
            self._errors.note(text, error)
            return
        batch.sessions += rows
        batch.removed += [(pool.site, session_id) for session_id in gone]

    # -- shared with other processes ---------------------------------------------------------------

    @property
    def asked(self) -> float:
        """When a session was last asked for, on any site."""
        return max((pool.ledger.asked for pool in self), default=self._asked)

    def lose(self, site: str, exits: Collection[str]) -> None:
        """Use exits no more that are another process's now."""
        holdings = self.holdings.get(site)
        if holdings is not None:
            holdings.lose(exits)
        elif site in self._loading:
            self._lost_early.setdefault(site, set()).update(exits)

    async def is_away(self, pool: SessionPool, session_id: str) -> bool:
        """Return whether a session that is not here is alive in the store: another process has it.

        True also where the store does not answer.
        """
        if not self._store.shared or session_id in pool.roster.removed:
            return False
        now = self._clock()
        if pool.away.get(session_id, now) <= now:
            has = self._thread.submit(partial(self._store.has, pool.site, session_id))
            try:
                if not await asyncio.wrap_future(has):
                    pool.away.pop(session_id, None)
                    return False
            except StoreError:
                pass
            pool.away[session_id] = self._clock() + AWAY
        return True

    def close(self) -> None:
        """Send everyone who waits for a session away, and let nobody wait any more."""
        for pool in self:
            pool.waiters.close()
