"""The pools of a crawl: one for each site, loaded when it is first asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from scrapy_session_filter import snapshot
from scrapy_session_filter.policies import PolicyContext
from scrapy_session_filter.pool import SessionPool
from scrapy_session_filter.proxies import EndpointHealth, SiteProxies
from scrapy_session_filter.stores.base import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from random import Random

    from scrapy_session_filter.identities import IdentitySource
    from scrapy_session_filter.inits import SiteInits
    from scrapy_session_filter.policies import Policy
    from scrapy_session_filter.proxies import ProxySource
    from scrapy_session_filter.roster import Limits, Watcher
    from scrapy_session_filter.session import Session
    from scrapy_session_filter.stores.base import SessionStore
    from scrapy_session_filter.stores.thread import StoreThread

logger = logging.getLogger("scrapy_session_filter")


class SitePools:
    """Makes, loads, saves and unloads pools.

    ``remember`` brings a session's cookies up to date before it is saved, ``forget`` drops what is
    held for a session that is unloaded. At most ``max_sites`` pools
    are held; the longest unused one without requests makes room.
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
        store: SessionStore,
        thread: StoreThread,
        remember: Callable[[Session], None],
        inits: Callable[[SessionPool], SiteInits] | None = None,
    ) -> None:
        self.endpoint_health = EndpointHealth()
        self.restored = snapshot.Restored()
        self._policy = policy
        self._context = context
        self._source = source
        self._identities = identities
        self._limits = limits
        self._max_sites = max_sites
        self._dry_run = dry_run
        self._rng = rng
        self._clock = clock
        self._watcher = watcher
        self._store = store
        self._thread = thread
        self._remember = remember
        self._inits = inits
        self._pools: OrderedDict[str, SessionPool] = OrderedDict()  # the longest unused first
        self._loading: dict[str, asyncio.Task[SessionPool]] = {}
        self._batches = 0
        self._run = f"{time.time_ns():x}"

    def __iter__(self) -> Iterator[SessionPool]:
        return iter(list(self._pools.values()))

    def peek(self, site: str) -> SessionPool | None:
        """Return a site's pool if it is loaded."""
        return self._pools.get(site)

    async def get(self, site: str) -> SessionPool:
        """Return a site's pool; the first time it is loaded from the store.

        Raises `StoreError` where the store cannot be read.
        """
        pool = self._pools.get(site)
        if pool is not None:
            self._pools.move_to_end(site)
            return pool
        task = self._loading.get(site)
        if task is None:
            task = self._loading[site] = asyncio.ensure_future(self._load(site))
            task.add_done_callback(lambda _: self._loading.pop(site, None))
        return await asyncio.shield(task)

    async def _load(self, site: str) -> SessionPool:
        offered = [e.key for e in self._source.endpoints() if not e.per_session]
        call = self._thread.submit(
            lambda: (self._store.claim(site, offered), self._store.site_state(site))
        )
        claim, state = await asyncio.wrap_future(call)
        pool = self._make(site)
        now = self._clock()
        restored = snapshot.restore(pool, claim.rows, state, now=now, wall_offset=time.time() - now)
        if claim.rows:
            logger.info("%s: %s", site, restored)
        self.restored.add(restored)
        self._pools[site] = pool
        self._make_room()
        return pool

    def _make(self, site: str) -> SessionPool:
        proxies = None
        if not self._source.direct:
            proxies = SiteProxies(self._source.endpoints(), self.endpoint_health, self._rng)
        context = PolicyContext(
            self._rng,
            gateway=proxies is None or not proxies.is_list,
            free_groups=tuple if proxies is None else proxies.free_groups,
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
        )

    def _make_room(self) -> None:
        for site, pool in list(self._pools.items()):
            if len(self._pools) <= self._max_sites:
                return
            if pool.in_flight or pool.waiting:
                continue
            batch = self._batch([pool])
            exits = {session.exit for session in pool.sessions.values()}
            for session in pool.sessions.values():
                self._watcher.gone(session)  # what it holds comes back with it from the store
            if batch:
                self._thread.submit(partial(self._store.apply, batch))
            self._thread.submit(partial(self._store.release, site, exits))
            del self._pools[site]

    def update_proxies(self) -> None:
        """Hand the source's current proxies to all pools."""
        for pool in self:
            pool.update_proxies(self._source.endpoints())

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
            for session in pool.roster.changed:
                self._remember(session)
            rows, removed = snapshot.take_changes(pool, offset)
            if rows or removed:
                batch.sessions += rows
                batch.removed += [(pool.site, session_id) for session_id in removed]
                batch.sites[pool.site] = snapshot.site_state(pool, offset)
        for key in self.endpoint_health.changed:
            batch.endpoints[key] = self.endpoint_health.dump(key, offset)
        self.endpoint_health.changed.clear()
        return batch

    def close(self) -> None:
        """Send everyone who waits for a session away, and let nobody wait any more."""
        for pool in self:
            pool.close()
