"""The last look before the wire: a request that should carry a session does, or nothing goes out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scrapy_session_filter.admission import goes_without
from scrapy_session_filter.extension import extension_of
from scrapy_session_filter.refusals import IgnoredRefused
from scrapy_session_filter.tracking import META_KEY, lease_of
from scrapy_session_filter.verdict import Kind

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from typing_extensions import Self

    from scrapy_session_filter.extension import SessionFilterExtension

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

    def process_request(self, request: Request) -> None:
        """Let a request pass if it carries its session, or was meant to go without one."""
        held = self._extension.leases.get(lease_of(request))
        if held is not None:
            if self._extension.binding.carries(request, held.lease.session):
                return
        elif goes_without(request):
            return
        self._extension.count("refused")
        msg = f"{request} was stopped at the gate: it does not carry its session's proxy"
        logger.error("%s (does another middleware touch it?)", msg)
        raise IgnoredRefused(msg)

    async def process_response(self, request: Request, response: Response) -> Response:
        """Scrub the request; with an HTTP cache, judge now and keep blocks out of it."""
        if META_KEY in request.meta:
            self._extension.binding.scrub(request)
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

    def process_exception(self, request: Request, exception: Exception) -> None:
        """Scrub the request."""
        if META_KEY in request.meta:
            self._extension.binding.scrub(request)
