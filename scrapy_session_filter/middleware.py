"""Scrapy's requests and answers on one side, the pools on the other.

At 650 a downloader middleware sees redirects before they are followed and answers before
RetryMiddleware does. What a request gets and what an answer costs is decided elsewhere; here it is
carried out.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scrapy import signals
from scrapy.exceptions import IgnoreRequest

from scrapy_session_filter.acquiring import Acquirer
from scrapy_session_filter.admission import needs_session
from scrapy_session_filter.attempts import again, before_hop, may_try_again, report_block
from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.extension import extension_of
from scrapy_session_filter.hook_errors import HookErrors
from scrapy_session_filter.inits import LOGGED_OUT
from scrapy_session_filter.refusals import IgnoredGiveUp, unserved
from scrapy_session_filter.tracking import (
    LET_PASS,
    META_KEY,
    OF_A_CHAIN,
    PIN,
    VERDICT,
    Arrival,
    Track,
    arrival,
    is_inline,
    is_robots,
    lease_of,
    note_scheduled,
    strip,
)
from scrapy_session_filter.verdict import KIND_OK, OK, About, Kind

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from typing_extensions import Self

    from scrapy_session_filter.extension import SessionFilterExtension
    from scrapy_session_filter.leases import Held
    from scrapy_session_filter.pool import SessionPool
    from scrapy_session_filter.session import Lease
    from scrapy_session_filter.verdict import Verdict

__all__ = ["SessionFilterMiddleware", "report_block"]

logger = logging.getLogger("scrapy_session_filter")

_NEW, _AGAIN, _REDIRECT = Arrival.NEW, Arrival.AGAIN, Arrival.REDIRECT
_OWN_RETRY = (Kind.BLOCKED, Kind.THROTTLED, Kind.PROXY_ERROR)


class SessionFilterMiddleware:
    """Gives each request a session, reports what came of it, and sends blocked pages out again.

    Belongs between RedirectMiddleware (600) and CookiesMiddleware (700).
    """

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Join the crawl's extension; NotConfigured where the filter is disabled."""
        middleware = cls(crawler, extension_of(crawler, cls.__name__))
        crawler.signals.connect(middleware.spider_opened, signal=signals.spider_opened)
        return middleware

    def __init__(self, crawler: Crawler, extension: SessionFilterExtension) -> None:
        self._crawler = crawler
        self._extension = extension
        self._settings = extension.settings
        self._judge = extension.answers
        self._acquirer = Acquirer(extension)
        self._errors = HookErrors(extension.count)

    # -- requests --------------------------------------------------------------------------------

    def spider_opened(self) -> None:
        """Where the scheduler has another queue than ours, hear from the engine what it is given."""
        if not self._extension.turns.has_queue:
            connect = self._crawler.signals.connect
            connect(note_scheduled, signal=signals.request_scheduled)

    async def process_request(self, request: Request) -> Request | None:
        """Put a session on the request; wait for one if need be, within bounds."""
        extension, track, how = self._extension, Track.of(request), _NEW
        if track is None:
            track = Track()
        elif track.init and extension.inits is not None:
            extension.inits.put_on(request, track)
            return None
        elif self._is_out(request, track):
            return self._another(request)
        else:
            how = arrival(request, track)
            track = self._take_over(request, track, how)
        if not needs_session(request, extension.binding.refusal, extension.count):
            return None
        # A copy of ours that comes back without having been scheduled is looped by download_async.
        track.inline = is_inline(request) or (how is _AGAIN and not track.scheduled)
        goes_on = how is _REDIRECT and track.site and track.session
        try:
            site = track.site if goes_on and track.site else self._site_of(request)
            pool = extension.pools.use(site) or await extension.pools.get(site)
        except StoreError as error:
            return await self._without_store(request, track, error)
        if goes_on and track.session:
            lease = pool.resume(track.session)
            if lease is None:
                extension.count("redirects_restarted")
                return again(request, track)
        else:
            lease = await self._acquirer.acquire(request, track, pool)
            if META_KEY in request.meta:  # this very object got a session meanwhile
                return self._another(request, pool, lease)
            if lease is None:
                if track.inline:
                    why = f"the spider closes, or {pool.site} is given up"
                    raise unserved(request, why, extension.count)
                extension.count("given_back")
                return again(request, track)
        self._assign(request, track, pool, lease)
        return None

    def _is_out(self, request: Request, track: Track) -> bool:
        """Return whether this very object is being downloaded: a spider has yielded it again."""
        held, engine = self._extension.leases.get(track.lease), self._crawler.engine
        if held is None or held.request() is not request or engine is None:
            return False
        return any(request in slot.active for slot in engine.downloader.slots.values())

    def _another(
        self, request: Request, pool: SessionPool | None = None, lease: Lease | None = None
    ) -> Request:
        """Return a copy, as new, of a request that is out: touched, it would go on bare."""
        if pool is not None and lease is not None:
            pool.give_back(lease)
        track = Track.of(request) or Track()
        fresh = Track(session=track.session, marks=track.marks, pinned=track.pinned)
        return again(request, fresh, binding=self._extension.binding)

    def _site_of(self, request: Request) -> str:
        try:
            return self._extension.site_of(request)
        except Exception as error:
            what = f"SESSION_FILTER_SITE raised {type(error).__name__}"
            self._errors.note(f"{what}; the request fails", error)
            raise

    async def _without_store(self, request: Request, track: Track, error: StoreError) -> Request:
        """Send a request back to the scheduler whose site's sessions cannot be read just now."""
        extension = self._extension
        extension.count("store_errors")
        if track.inline and extension.closing:
            why = "the spider closes, and the store cannot be read"
            raise unserved(request, why, extension.count)
        logger.debug("%s waits: the store cannot be read (%s)", request, error)
        await self._acquirer.pause(track)
        return again(request, track)

    def _take_over(self, request: Request, track: Track, how: Arrival) -> Track:
        """Undo what an earlier attempt left on the request, and keep what still holds."""
        held = self._extension.leases.get(track.lease)
        if held is not None and (how is not _NEW or held.request() is request):
            # Another middleware sent the request round again; a mere copy leaves the lease alone.
            self._extension.leases.let_go(track.lease)
            held.pool.abandon(held.lease)
        if how is Arrival.RETRY:
            self._extension.binding.renew(request)
        if track.marks is not None:
            self._extension.binding.take_off(request, track.marks)
        strip(request, track)
        if how is _NEW:
            for key in OF_A_CHAIN:  # of the page whose meta was copied
                request.meta.pop(key, None)
            return Track()
        if track.lifted:
            request.dont_filter = False
        track.lease = track.marks = None
        if how is Arrival.RETRY and track.session:
            track.avoid.append(track.session)
        return track

    def _assign(self, request: Request, track: Track, pool: SessionPool, lease: Lease) -> None:
        extension, session, meta = self._extension, lease.session, request.meta
        track.marks = extension.binding.put_on(request, session)
        track.session, track.site, track.lease = session.id, pool.site, lease.id
        track.run = extension.run
        track.retry_times = meta.get("retry_times", 0)
        track.redirect_times = meta.get("redirect_times", 0)
        track.returned = track.scheduled = track.lifted = False
        track.asked = None
        track.stays = False
        track.put_on(request)
        meta.pop("download_latency", None)  # of an earlier attempt
        extension.leases.hold(lease, pool, request)
        extension.count("requests")
        logger.debug(
            "%s goes through session %s of %s (%s)", request, session.id, pool.site, lease.why
        )

    # -- answers ---------------------------------------------------------------------------------

    async def process_response(self, request: Request, response: Response) -> Response | Request:
        """Judge an answer, report it, and send a blocked page out again on another session."""
        held = self._extension.leases.let_go(lease_of(request))
        if held is None:
            return response
        if "cached" in response.flags:
            self._take_cached(request, response, held)
            return response
        try:
            return await self._take_in(request, response, held)
        except BaseException:  # whatever decoding, a hook or a broken page raises is not its fault
            held.pool.abandon(held.lease)
            raise

    async def _take_in(
        self, request: Request, response: Response, held: Held
    ) -> Response | Request:
        """Report an answer, and return it or the request to send out instead."""
        response, verdict = await self._judge.answer(request, response, held.lease)
        meta = request.meta
        meta[PIN] = held.lease.session.id
        meta[VERDICT] = verdict.as_dict()
        if verdict is LOGGED_OUT:
            track = Track.of(request) or Track()
            if not track.renewed:
                return self._renew(request, track, held, response)
        inits = self._extension.inits
        if inits is not None and inits.judged(held.lease, verdict):
            return response
        if self._judge.is_followed(request, response, verdict):
            self._go_on(request, held, verdict)
            return response
        self._report(request, held, verdict)
        if verdict.kind is KIND_OK:
            return response
        if self._judge.wants_anyway(request, response):
            held.pool.ledger.fed()
            if self._judge.is_followed(request, response, OK):
                track = Track.of(request) or Track()
                raise IgnoredGiveUp(request.url, verdict, track.attempts + 1)
            return response
        return self._answer(request, verdict, response) or response

    def _renew(
        self, request: Request, track: Track, held: Held, response: Response
    ) -> Response | Request:
        """Try a page again in its session, which was found logged out and is prepared anew."""
        held.pool.log_out(held.lease)
        if request.meta.get("dont_retry"):
            return response
        return again(request, track, binding=self._extension.binding, stays=True)

    def _go_on(self, request: Request, held: Held, verdict: Verdict) -> None:
        """Let the next hop of a redirect take over: this answer says nothing yet."""
        self._extension.numbers.count_verdict(verdict)
        before_hop(request).put_on(request)
        held.pool.pause(held.lease)

    def _take_cached(self, request: Request, response: Response, held: Held) -> None:
        """End the lease of a page from the cache: it proves nothing, unless the site was asked of it."""
        request.meta[PIN] = held.lease.session.id
        held.pool.ledger.fed()
        followed = self._judge.is_followed(request, response, OK)
        verdict = self._extension.verdicts.pop(held.lease.id, None)
        if verdict is not None and verdict.kind is KIND_OK and followed:
            self._go_on(request, held, verdict)
            return
        if verdict is not None:
            self._report(request, held, verdict)
        else:
            self._extension.count("cached")
            held.pool.give_back(held.lease)
        if followed:
            track = before_hop(request)
            if not track.pinned:
                del request.meta[PIN]
            track.session = None  # there is no use that the next hop could go on with
            track.put_on(request)

    def process_exception(self, request: Request, exception: Exception) -> Request | None:
        """Judge a failure; those of proxies are tried again here, those of sites by Scrapy."""
        held = self._extension.leases.let_go(lease_of(request))
        if held is None:
            return None
        if isinstance(exception, IgnoreRequest):
            held.pool.abandon(held.lease)
            return None
        verdict = self._judge.failure(request, exception, held.lease)
        inits = self._extension.inits
        if inits is not None and inits.judged(held.lease, verdict):
            return None
        self._report(request, held, verdict)
        return self._answer(request, verdict, None)

    def _report(self, request: Request, held: Held, verdict: Verdict) -> None:
        extension, lease = self._extension, held.lease
        extension.numbers.count_verdict(verdict)
        if verdict.kind is not KIND_OK:
            logger.debug("%s through session %s: %s", request, lease.session.id, verdict)
            if verdict.is_block and is_robots(request):
                held.pool.abandon(lease)
                return
        now = extension.clock()
        latency = request.meta.get("download_latency")
        sent = lease.acquired if latency is None else max(lease.acquired, now - latency)
        held.pool.report(lease, verdict, sent=sent, latency=latency or now - sent)

    def _answer(
        self, request: Request, verdict: Verdict, response: Response | None
    ) -> Request | None:
        """Return the request to send out instead of this answer, or None to pass the answer on."""
        extension = self._extension
        if verdict.kind not in _OWN_RETRY or self._settings.dry_run:
            return None
        if verdict.is_block and is_robots(request):
            return None  # what a site says there is its rule, not a page
        if response is None and request.meta.get("dont_retry"):
            return None
        track = Track.of(request) or Track()
        track.countries += verdict.about is About.COUNTRY
        if may_try_again(track, verdict, self._settings.retry_times):
            extension.count("retries")
            return again(request, track, binding=extension.binding, failed=True)
        extension.count("gave_up")
        logger.warning("Gave up %s after %d attempts: %s", request, track.attempts + 1, verdict)
        if response is not None and self._settings.give_up == "deliver":
            response.flags.append("session_filter_blocked")
            # Else RetryMiddleware would spend its own budget on it, RedirectMiddleware and
            # MetaRefreshMiddleware follow it, and HttpErrorMiddleware drop it.
            track.delivered = [key for key in LET_PASS if not request.meta.get(key)]
            request.meta.update(dict.fromkeys(LET_PASS, True))
            track.put_on(request)
            return None
        raise IgnoredGiveUp(request.url, verdict, track.attempts + 1)
