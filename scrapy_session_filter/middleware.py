"""Scrapy's requests and answers on one side, the pools on the other.

At 650 a downloader middleware sees redirects before they are followed and answers before
RetryMiddleware does. What a request gets and what an answer costs is decided elsewhere; here it is
carried out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from scrapy import signals
from scrapy.exceptions import IgnoreRequest
from scrapy.utils.httpobj import urlparse_cached

from scrapy_session_filter.attempts import again, may_try_again, report_block, start_of
from scrapy_session_filter.exceptions import SessionFilterSessionGone
from scrapy_session_filter.extension import extension_of
from scrapy_session_filter.judging import AnswerJudge
from scrapy_session_filter.refusals import IgnoredGiveUp, IgnoredRefused, IgnoredSessionGone
from scrapy_session_filter.tracking import (
    LET_PASS,
    OPT_OUT,
    OPTIONAL,
    PIN,
    VERDICT,
    Arrival,
    Track,
    arrival,
    is_inline,
    is_robots,
    strip,
)
from scrapy_session_filter.verdict import Kind

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from typing_extensions import Self

    from scrapy_session_filter.extension import Held, SessionFilterExtension
    from scrapy_session_filter.pool import SessionPool
    from scrapy_session_filter.session import Lease
    from scrapy_session_filter.verdict import Verdict

__all__ = ["SessionFilterMiddleware", "report_block"]

logger = logging.getLogger("scrapy_session_filter")

BRIEF = 0.25
"""Seconds a request is held when too many wait already: a scheduler that would hand it out again at
once must not spin."""
_OWN_RETRY = (Kind.BLOCKED, Kind.THROTTLED, Kind.PROXY_ERROR)


class SessionFilterMiddleware:
    """Gives each request a session, reports what came of it, and sends blocked pages out again.

    Belongs between RedirectMiddleware (600) and CookiesMiddleware (700).
    """

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Join the crawl's extension; NotConfigured where the filter is disabled."""
        middleware = cls(crawler, extension_of(crawler, cls.__name__))
        crawler.signals.connect(middleware.request_scheduled, signal=signals.request_scheduled)
        return middleware

    def __init__(self, crawler: Crawler, extension: SessionFilterExtension) -> None:
        self._crawler = crawler
        self._extension = extension
        self._settings = extension.settings
        self._judge = AnswerJudge(crawler, extension)

    # -- requests --------------------------------------------------------------------------------

    def request_scheduled(self, request: Request) -> None:
        """Let the hops of a chain that started again pass the duplicates filter: it knows them."""
        track = Track.of(request)
        if (
            track is not None
            and track.restarted
            and not request.dont_filter
            and arrival(request, track) is Arrival.REDIRECT
        ):
            request.dont_filter = track.lifted = True
            track.put_on(request)

    async def process_request(self, request: Request) -> Request | None:
        """Put a session on the request; wait for one if need be, within bounds."""
        track = Track.of(request)
        how = arrival(request, track)
        track = Track() if track is None else self._take_over(request, track, how)
        if self._stays_out(request):
            return None
        self._check(request)
        if how is Arrival.REDIRECT and track.site and track.session:
            pool = await self._extension.pools.get(track.site)
            lease = pool.resume(track.session)
            if lease is None:
                self._extension.count("redirects_restarted")
                return again(request, track)
        else:
            pool = await self._extension.pools.get(self._extension.site_of(request))
            lease = await self._acquire(request, track, pool)
            if lease is None:
                if track.avoid and pool.is_hopeless(track.avoid):
                    track.avoid = []  # it has failed on all there are: else it would wait for ever
                self._extension.count("given_back")
                return again(request, track)
        self._assign(request, track, pool, lease)
        return None

    def _take_over(self, request: Request, track: Track, how: Arrival) -> Track:
        """Undo what an earlier attempt left on the request, and keep what still holds."""
        held = self._extension.let_go(track.lease)
        if held is not None and (how is not Arrival.NEW or held.request() is request):
            held.pool.abandon(held.lease)  # another middleware sent the request round again
        elif held is not None:
            self._extension.leases[held.lease.id] = held  # a copy: the lease is the original's
        if track.marks is not None:
            self._extension.binding.take_off(request, track.marks)
        strip(request, track)
        if how is Arrival.NEW:
            return Track()
        if track.lifted:
            request.dont_filter = False
        track.lease = track.marks = None
        if how is Arrival.RETRY and track.session:
            track.avoid.append(track.session)
        return track

    def _stays_out(self, request: Request) -> bool:
        """Return whether a request goes its own way: opted out, or with a proxy of its own."""
        if request.meta.get(OPT_OUT) is False:
            self._extension.count("opted_out")
            return True
        if request.meta.get("proxy"):
            self._extension.count("own_proxy")
            return True
        return urlparse_cached(request).scheme == "data"

    def _check(self, request: Request) -> None:
        """Refuse what cannot carry a session, before it could go out without one."""
        meta = request.meta
        scheme = urlparse_cached(request).scheme
        if scheme not in ("http", "https"):
            what = f"{scheme}: requests ignore proxies"
        elif "proxy" in meta:
            what = 'its meta "proxy" is empty, so it would go out directly'
        elif meta.get("cookiejar") is not None:
            what = f'it brings its own "cookiejar"; to stay with a visitor pass meta "{PIN}"'
        elif meta.get("playwright_context") is not None:
            what = 'it brings its own "playwright_context"'
        elif meta.get("playwright"):
            what = "scrapy-playwright ignores the session's proxy"
        else:
            return
        self._extension.count("refused")
        msg = f'{request} was refused: {what}. Without a session, pass meta "{OPT_OUT}": False'
        logger.error("%s", msg)
        raise IgnoredRefused(msg)

    async def _acquire(self, request: Request, track: Track, pool: SessionPool) -> Lease | None:
        """Return a lease, or None where the request has to go back to the scheduler."""
        pin = request.meta.get(PIN)
        track.pinned = pin is not None
        try:
            got = (
                pool.try_acquire(attempt=track.attempts, avoid=track.avoid)
                if pin is None
                else pool.acquire_pinned(str(pin), attempt=track.attempts)
            )
            if not isinstance(got, float):
                return got
            if self._extension.closing:
                return None
            self._extension.count("waits")
            if pin is not None:
                self._check_patience(str(pin), track, pool)
            return await self._wait(request, track, pool, None if pin is None else str(pin))
        except SessionFilterSessionGone as gone:
            if request.meta.get(OPTIONAL):
                del request.meta[PIN]
                return await self._acquire(request, track, pool)
            self._extension.count("sessions_gone")
            raise IgnoredSessionGone(gone.session_id, gone.site) from None

    def _check_patience(self, pin: str, track: Track, pool: SessionPool) -> None:
        now = time.time()  # a pin may wait in the scheduler's queue over a restart
        if track.asked is None:
            track.asked = now
        elif 0 < self._settings.exhausted_timeout < now - track.asked:
            raise SessionFilterSessionGone(pin, pool.site)

    async def _wait(
        self, request: Request, track: Track, pool: SessionPool, pin: str | None
    ) -> Lease | None:
        """Wait up to ``WAIT_TIMEOUT``; where no scheduler stands behind it, until there is a lease."""
        extension = self._extension
        inline = is_inline(request)
        if extension.waiting >= extension.most_waiting and not inline:
            await asyncio.sleep(min(BRIEF, self._settings.wait_timeout))
            return None
        extension.waiting += 1
        try:
            while True:
                lease = await pool.acquire(
                    timeout=self._settings.wait_timeout,
                    attempt=track.attempts,
                    avoid=track.avoid,
                    pin=pin,
                )
                if lease is not None or not inline or extension.closing or pool.given_up:
                    break
        finally:
            extension.waiting -= 1
        if lease is None and inline:
            msg = f"{request}: the spider closes, or {pool.site} is given up"
            raise IgnoredRefused(msg)
        return lease

    def _assign(self, request: Request, track: Track, pool: SessionPool, lease: Lease) -> None:
        extension, session = self._extension, lease.session
        track.marks = extension.binding.put_on(request, session)
        track.session, track.site, track.lease = session.id, pool.site, lease.id
        track.run = extension.run
        track.retry_times = request.meta.get("retry_times", 0)
        track.redirect_times = request.meta.get("redirect_times", 0)
        track.returned = track.lifted = False
        track.asked = None
        if not track.redirect_times:
            track.start = start_of(request)
        track.put_on(request)
        extension.hold(lease, pool, request)
        extension.count("requests")
        logger.debug(
            "%s goes through session %s of %s (%s)", request, session.id, pool.site, lease.why
        )

    # -- answers ---------------------------------------------------------------------------------

    async def process_response(self, request: Request, response: Response) -> Response | Request:
        """Judge an answer, report it, and send a blocked page out again on another session."""
        track = Track.of(request)
        held = self._extension.let_go(track.lease if track else None)
        if track is None or held is None:
            return response
        if "cached" in response.flags:
            self._extension.count("cached")
            held.pool.give_back(held.lease)
            return response
        try:
            response, verdict = await self._judge.answer(request, response, held.lease)
        except BaseException:  # whatever decoding raises is not the session's fault
            held.pool.abandon(held.lease)
            raise
        request.meta[PIN] = held.lease.session.id
        request.meta[VERDICT] = verdict.as_dict()
        self._report(request, held, verdict, response=response)
        return self._answer(request, track, verdict, response) or response

    def process_exception(self, request: Request, exception: Exception) -> Request | None:
        """Judge a failure; those of proxies are tried again here, those of sites by Scrapy."""
        track = Track.of(request)
        held = self._extension.let_go(track.lease if track else None)
        if track is None or held is None:
            return None
        if isinstance(exception, IgnoreRequest):
            held.pool.abandon(held.lease)
            return None
        verdict = self._judge.failure(request, exception, held.lease)
        self._report(request, held, verdict, response=None)
        return self._answer(request, track, verdict, None)

    def _report(
        self, request: Request, held: Held, verdict: Verdict, *, response: Response | None
    ) -> None:
        extension, lease = self._extension, held.lease
        extension.count_verdict(verdict)
        spared = verdict.is_block and is_robots(request)
        if response is not None and self._judge.is_followed(request, response, verdict):
            held.pool.pause(lease)
        elif spared:
            held.pool.abandon(lease)
        else:
            now = extension.clock()
            latency = request.meta.get("download_latency")
            sent = lease.acquired if latency is None else max(lease.acquired, now - latency)
            held.pool.report(lease, verdict, sent=sent, latency=latency or now - sent)
        if verdict.kind is not Kind.OK:
            logger.debug("%s through session %s: %s", request, lease.session.id, verdict)

    def _answer(
        self,
        request: Request,
        track: Track,
        verdict: Verdict,
        response: Response | None,
    ) -> Request | None:
        """Return the request to send out instead of this answer, or None to pass the answer on."""
        extension = self._extension
        if verdict.kind not in _OWN_RETRY or self._settings.dry_run:
            return None
        if verdict.is_block and is_robots(request):
            return None  # what a site says there is its rule, not a page
        if response is not None and self._judge.wants_anyway(request, response):
            return None
        if response is None and request.meta.get("dont_retry"):
            return None
        if may_try_again(track, verdict, self._settings.retry_times):
            extension.count("retries")
            return again(request, track, binding=extension.binding, failed=True)
        extension.count("gave_up")
        logger.warning("Gave up %s after %d attempts: %s", request, track.attempts + 1, verdict)
        if response is not None and self._settings.give_up == "deliver":
            response.flags.append("session_filter_blocked")
            # Else RetryMiddleware would spend its own budget on it, and HttpErrorMiddleware drop it.
            request.meta.update(dict.fromkeys(LET_PASS, True))
            track.delivered = True
            track.put_on(request)
            return None
        raise IgnoredGiveUp(request.url, verdict, track.attempts + 1)
