"""The last look before the wire: a request that should carry a session does, or nothing goes out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn

from scrapy_session_filter.admission import goes_without
from scrapy_session_filter.attempts import again, start_of
from scrapy_session_filter.engines.base import PARTIAL
from scrapy_session_filter.extension import extension_of
from scrapy_session_filter.refusals import IgnoredRefused, unserved
from scrapy_session_filter.tracking import META_KEY, Track, lease_of
from scrapy_session_filter.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from typing_extensions import Self

    from scrapy_session_filter.engines import EngineBinding
    from scrapy_session_filter.extension import SessionFilterExtension
    from scrapy_session_filter.leases import Held

logger = logging.getLogger("scrapy_session_filter")


class ProxyGate:
    """Fails closed on the way out, and takes the credentials off again on the way back.

    Belongs behind everything else that touches requests (995): on the way back it is then the first,
    so that neither disk queues nor caches ever see credentials.
    """

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Join the crawl's extension; NotConfigured where the filter is disabled."""
        return cls(crawler, extension_of(crawler, cls.__name__))

    def __init__(self, crawler: Crawler, extension: SessionFilterExtension) -> None:
        self._extension = extension
        self._caches = crawler.settings.getbool("HTTPCACHE_ENABLED")

    def process_request(self, request: Request) -> Awaitable[Request | None] | Request | None:
        """Let a request pass if it carries its session, or was meant to go without one.

        Only engines that have something to prepare cost a coroutine.
        """
        held = self._extension.leases.get(lease_of(request))
        if held is not None:
            binding = self._extension.binding.of(request)
            if binding is not None and binding.awaits:
                return self._prepare(request, binding, held)
            if binding is None or not binding.carries(request, held.lease.session):
                return self._stop(request, held)
        elif not goes_without(request):
            self._refuse(request)
        return None

    def _stop(self, request: Request, held: Held) -> Request:
        """Send a request back that waited while its proxy's password changed; refuse any other."""
        if held.endpoint is held.lease.session.endpoint:
            self._refuse(request)
        return self._send_back(request, held)

    def _refuse(self, request: Request) -> NoReturn:
        self._extension.count("refused")
        msg = f"{request} was stopped at the gate: it does not carry its session's proxy"
        logger.error("%s (does another middleware touch it?)", msg)
        raise IgnoredRefused(msg)

    async def _prepare(
        self, request: Request, binding: EngineBinding, held: Held
    ) -> Request | None:
        session = held.lease.session
        if await binding.prepare(request, session):
            return None if binding.carries(request, session) else self._stop(request, held)
        return self._send_back(request, held)

    def _send_back(self, request: Request, held: Held) -> Request:
        extension = self._extension
        track = Track.of(request) or Track()
        extension.leases.let_go(track.lease)
        held.pool.give_back(held.lease)
        if track.inline and extension.closing:
            raise unserved(request, "the spider closes", extension.count)
        extension.count("given_back")
        return again(request, track, binding=extension.binding)

    async def _collect(
        self, request: Request, binding: EngineBinding, result: Response | Exception
    ) -> Response | None:
        """Have the engine take over what the download left; note redirects that it followed itself."""
        held = self._extension.leases.get(lease_of(request))
        track = Track.of(request)
        if held is None or track is None:
            return None
        instead = await binding.collect(request, held.lease.session, result)
        followed = request.meta.get("redirect_times", 0)
        if followed > track.redirect_times:
            track.redirect_times, track.start = followed, start_of(request)
            track.put_on(request)
        return instead

    def process_response(
        self, request: Request, response: Response
    ) -> Awaitable[Response] | Response:
        """Scrub the request; with an HTTP cache, judge now and keep blocks out of it."""
        if META_KEY not in request.meta:
            return response
        binding = self._extension.binding.of(request)
        if self._caches or (binding is not None and binding.awaits):
            return self._take_in(request, binding, response)
        if binding is not None:
            binding.scrub(request)
        return response

    async def _take_in(
        self, request: Request, binding: EngineBinding | None, response: Response
    ) -> Response:
        if binding is not None:
            if binding.awaits:
                response = await self._collect(request, binding, response) or response
            binding.scrub(request)
        if self._caches and "cached" not in response.flags:
            await self._guard_cache(request, response)
        return response

    async def _guard_cache(self, request: Request, response: Response) -> None:
        held = self._extension.leases.get(lease_of(request))
        if held is None:
            return
        verdict = await self._extension.answers.before_cache(request, response, held.lease)
        if verdict.is_block or verdict.kind is Kind.PROXY_ERROR:
            request.meta["_dont_cache"] = True  # for this answer: the cache takes it off again

    def process_exception(
        self, request: Request, exception: Exception
    ) -> Awaitable[Response | None] | None:
        """Scrub the request; an engine may know of an answer after all."""
        if META_KEY in request.meta:
            binding = self._extension.binding.of(request)
            if binding is not None:
                if binding.awaits:
                    return self._collect_failure(request, binding, exception)
                binding.scrub(request)
        return None

    async def _collect_failure(
        self, request: Request, binding: EngineBinding, exception: Exception
    ) -> Response | None:
        instead = await self._collect(request, binding, exception)
        binding.scrub(request)
        if instead is not None and PARTIAL in instead.flags:
            verdict = self._extension.judge.response(instead, request)
            if verdict.kind in (Kind.OK, Kind.SITE_ERROR):
                return None
        return instead
