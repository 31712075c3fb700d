"""Owns a crawl's pools, leases and store, from the first moment to the last."""

from __future__ import annotations

import asyncio
import atexit
import logging
import random
import time
import weakref
from secrets import token_hex
from typing import TYPE_CHECKING

import scrapy
from scrapy import signals
from scrapy.exceptions import CloseSpider, NotConfigured
from scrapy.utils.asyncio import create_looping_call

from scrapy_session_filter.claiming import EVERY, ClaimKeeper
from scrapy_session_filter.engine_pulse import EnginePulse
from scrapy_session_filter.engines import Engines
from scrapy_session_filter.exceptions import ConfigurationError, SessionFilterError
from scrapy_session_filter.garbage import crawl_begins, crawl_ended, crawl_is_made
from scrapy_session_filter.hook_errors import HookErrors
from scrapy_session_filter.initiating import InitRunner
from scrapy_session_filter.judging import AnswerJudge
from scrapy_session_filter.leases import HeldLeases
from scrapy_session_filter.numbers import Numbers
from scrapy_session_filter.outbox import Outbox
from scrapy_session_filter.pools import SitePools
from scrapy_session_filter.saving import Saver
from scrapy_session_filter.settings import SessionFilterSettings
from scrapy_session_filter.stores.thread import StoreThread
from scrapy_session_filter.tenure import Tenure
from scrapy_session_filter.tracking import SITE
from scrapy_session_filter.turns import Turns
from scrapy_session_filter.watcher import Watcher

if TYPE_CHECKING:
    from scrapy import Request, Spider
    from scrapy.crawler import Crawler
    from typing_extensions import Self

    from scrapy_session_filter.verdict import Verdict

logger = logging.getLogger("scrapy_session_filter")

LAST_CALL = 1.0
"""Seconds the spider waits at its end for the store to close."""
HONOURS_CLOSE_SPIDER = (2, 19)
"""The first Scrapy tested in which CloseSpider from a spider_opened handler closes the spider."""
WATCH_CLOSING = 0.25
"""Seconds between two looks whether the spider closes: whoever waits must not keep it."""
NUDGE = 0.005
"""Seconds within which several sites that become ready wake the engine once."""

RUNS: weakref.WeakValueDictionary[str, SessionFilterExtension] = weakref.WeakValueDictionary()
"""The extensions of this process by run, so that `report_block` finds a response's own crawl."""


class SessionFilterExtension:
    """Opens store and pools, saves what changes, and sums up at the end.

    Saved is every ``SESSION_FILTER_SAVE_INTERVAL`` seconds, within 0.2 s of a rest or retirement,
    when the spider idles or closes, and at the exit of the process, however that comes about
    short of a kill.
    """

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Check every setting and open the store, so that a bad one stops the crawl at once.

        Raises `ConfigurationError` or `StoreError`; NotConfigured only where
        ``SESSION_FILTER_ENABLED`` is false.
        """
        try:
            settings = SessionFilterSettings.from_settings(crawler.settings)
            if not settings.enabled:
                logger.info("Session filter disabled: SESSION_FILTER_ENABLED is False")
                msg = "SESSION_FILTER_ENABLED is False"
                raise NotConfigured(msg)
            extension = cls(crawler, settings)
        except SessionFilterError:
            fail(crawler)
            raise
        connect = crawler.signals.connect
        connect(extension.spider_opened, signal=signals.spider_opened)
        connect(extension.spider_idle, signal=signals.spider_idle)
        connect(extension.spider_closed, signal=signals.spider_closed)
        return extension

    def __init__(self, crawler: Crawler, settings: SessionFilterSettings) -> None:
        crawl_is_made()
        self.crawler = crawler
        self.settings = settings
        self.clock = time.monotonic
        self.run = token_hex(6)
        self.numbers = Numbers()
        self.count = self.numbers.count
        self._errors = HookErrors(self.count)
        self.leases = HeldLeases(self._on_lost)
        #: judged before the HTTP cache saw the answer, by lease
        self.verdicts: dict[str, Verdict] = {}
        self.judge = settings.make_judge()
        self.answers = AnswerJudge(crawler, self)
        self.binding = Engines(crawler, settings)
        self.inits = InitRunner.of(crawler, self)
        self._closing = False
        self._ending: asyncio.Future[None] | None = None
        self._refreshing: asyncio.Future[None] | None = None
        self.pulse = EnginePulse(crawler)
        self._source = settings.make_source()
        self._store = settings.make_store()
        self._store.open()
        self._thread = StoreThread()
        #: closes the store of a crawl that fails at its start, in a process that goes on
        self._unclosed = weakref.finalize(self, self._thread.let_go, self._store)
        self._unclosed.atexit = False
        outbox = Outbox(self._store, self._thread, self.clock)
        self._tenure = Tenure()
        concurrency = crawler.settings.getint("CONCURRENT_REQUESTS")
        self.pools = SitePools(
            policy=settings.policy,
            context={
                "max_sessions": settings.max_sessions,
                "max_errors": settings.max_errors,
                "concurrency": concurrency,
            },
            source=self._source,
            identities=settings.identities,
            limits=settings.limits,
            max_sites=settings.max_sites,
            dry_run=settings.dry_run,
            rng=random.Random(),
            clock=self.clock,
            watcher=Watcher(
                count=self.count,
                urgent=self._on_urgent,
                gone=self.binding.forget,
                ready=self._on_ready,
            ),
            outbox=outbox,
            tenure=self._tenure,
            remember=self.binding.remember,
            inits=None if self.inits is None else self.inits.for_pool,
        )
        self.pools.load_endpoint_health()
        self.turns = Turns(self.pools, self.clock, max(1, concurrency // 8))
        self._saver = Saver(self.pools, outbox)
        self._keeper = ClaimKeeper(
            self.pools,
            self._store,
            self._thread,
            self._tenure,
            clock=self.clock,
            count=self.count,
        )
        self._loops = [
            (create_looping_call(self._every_interval), settings.save_interval),
            (create_looping_call(self._errors.outlive, self._keep_claims), EVERY),
            (create_looping_call(self._errors.outlive, self._watch_closing), WATCH_CLOSING),
        ]
        if self._source.refresh_interval:
            self._loops.append(
                (create_looping_call(self._refresh_proxies), self._source.refresh_interval)
            )
        RUNS[self.run] = self

    # -- the crawl's life ------------------------------------------------------------------------

    async def spider_opened(self, spider: Spider) -> None:
        """Fetch proxies that only come asynchronously, look for the browser, and start saving."""
        atexit.register(self._at_exit)
        reason = "session_filter_no_proxies"
        try:
            if self._source.pending:
                await self._source.refresh()
            reason = "session_filter_no_browser"
            await self.binding.open()
        except ConfigurationError as error:
            logger.error("%s", error)  # noqa: TRY400 - the message says it all
            if scrapy.version_info < HONOURS_CLOSE_SPIDER:
                asyncio.get_running_loop().call_later(0.1, self.close_spider, reason)
                return
            raise CloseSpider(reason) from error
        for loop, interval in self._loops:
            loop.start(interval, now=False)
        crawl_begins(self)

    def spider_idle(self, spider: Spider) -> None:
        """Save what changed while there is time, and break off what nobody waits for."""
        if self.inits is not None:
            self.inits.cancel()
        self._errors.outlive(self._sweep, self._saver.save)

    async def spider_closed(self, spider: Spider, reason: str) -> None:
        """End all leases, save, say in one line how it went, and close the store."""
        self._closing = True
        crawl_ended(self)
        for loop, _ in self._loops:
            if loop.running:
                loop.stop()
        self._errors.outlive(self._end_waits, self.leases.end_all, self.pulse.stop)
        if self._refreshing is not None:
            self._refreshing.cancel()
        try:
            await self.binding.close()
        finally:
            self._errors.outlive(self._sum_up)
            await self._put_away()

    async def _put_away(self) -> None:
        """Save the rest, and close the store whatever comes of that."""
        try:
            await self._saver.finish()
        finally:
            self._unclosed.detach()
            atexit.unregister(self._at_exit)
            closing = asyncio.wrap_future(self._thread.submit(self._store.close))
            await asyncio.wait([closing], timeout=LAST_CALL)
            self._thread.stop(patience=0.1)

    def _at_exit(self) -> None:
        """Save once more where the spider was not closed: a second Ctrl-C."""
        self._saver.finish_now()

    @property
    def closing(self) -> bool:
        """Whether the spider closes, or is about to."""
        return self._closing or self.pulse.closing

    @property
    def ended(self) -> bool:
        """Whether the spider is closed, or we are closing it: no session will come any more."""
        return self._closing

    def close_spider(self, reason: str) -> None:
        """Close the spider once, with a reason; requests that wait go back to the scheduler."""
        if self._closing or self.crawler.engine is None:
            return
        self._closing = True
        self._end_waits()
        self._ending = asyncio.ensure_future(self.crawler.engine.close_spider_async(reason=reason))

    # -- now and then ----------------------------------------------------------------------------

    def _every_interval(self) -> None:
        self._errors.outlive(self._sweep, self._saver.save, self._flush, self._check_exhausted)

    def _flush(self) -> None:
        if self.crawler.stats is not None:
            self.numbers.flush(self.crawler.stats)

    def _sum_up(self) -> None:
        if self.crawler.stats is not None:
            self.numbers.sum_up(self.crawler.stats, self.pools)

    def _on_lost(self, lease_id: str) -> None:
        self.count("leases_lost")
        self.verdicts.pop(lease_id, None)

    def _sweep(self) -> None:
        if self.crawler.engine is not None:
            self.leases.sweep(self.crawler.engine.downloader.active)

    def _keep_claims(self) -> None:
        self._keeper.round()
        if 0 < self.settings.store_timeout < self._keeper.lost_for(self.clock()):
            logger.error("The session store is gone: the spider closes")
            self.close_spider("session_filter_store_lost")

    def _refresh_proxies(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.ensure_future(self._refresh_source())

    async def _refresh_source(self) -> None:
        if await self._source.refresh():
            self.pools.update_proxies()

    def _watch_closing(self) -> None:
        if self.closing:
            self._end_waits()

    def _end_waits(self) -> None:
        self.pools.close()
        if self.inits is not None:
            self.inits.cancel()

    def _check_exhausted(self) -> None:
        timeout = self.settings.exhausted_timeout
        now = self.clock()
        if not timeout or self.settings.dry_run or now >= self._tenure.until:
            return
        asked = [pool for pool in self.pools if now - pool.ledger.asked < timeout]
        for pool in asked:
            hungry = (
                pool.ledger.hungry_since is not None and now - pool.ledger.hungry_since > timeout
            )
            if hungry and not pool.given_up:
                self.count("sites_given_up")
                logger.error("%s: no page in %.0f s; the site is given up", pool.site, timeout)
            pool.given_up = hungry  # until a page comes after all
        if asked and all(pool.given_up for pool in asked):
            self.close_spider("session_filter_exhausted")

    def _on_urgent(self) -> None:
        if not self._closing:
            self._saver.soon()

    def _on_ready(self, site: str) -> None:
        self.pulse.after(NUDGE)

    # -- leases ----------------------------------------------------------------------------------

    def site_of(self, request: Request) -> str:
        """Return the key of the pool a request belongs to."""
        meta = request.meta
        if meta.get(SITE):
            return str(meta[SITE])
        return self.settings.site_key(request)


def fail(crawler: Crawler) -> None:
    """Let the process exit with 1, as a crawl that could not be set up does from Scrapy 2.15 on.

    Before, only one without a spider did.
    """
    if scrapy.version_info < (2, 15):
        crawler.spider = None


def extension_of(crawler: Crawler, component: str) -> SessionFilterExtension:
    """Return the crawl's extension for one of the other components.

    Raises NotConfigured where the filter is disabled, and `ConfigurationError` where the extension
    is missing: without it requests would go out bare.
    """
    if not crawler.settings.getbool("SESSION_FILTER_ENABLED", True):
        msg = "SESSION_FILTER_ENABLED is False"
        raise NotConfigured(msg)
    extension = crawler.get_extension(SessionFilterExtension)
    if extension is None:
        fail(crawler)
        setting, found = "EXTENSIONS", "without scrapy_session_filter.SessionFilterExtension"
        expected = f"the extension that {component} works with; the add-on sets up all of them"
        raise ConfigurationError(setting, found, expected)
    return extension
