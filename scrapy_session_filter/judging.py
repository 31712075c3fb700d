"""Judging answers inside a crawl: decoded bodies, the spider's own opinion, what the user asked for."""

from __future__ import annotations

import inspect
import time
from functools import cached_property
from typing import TYPE_CHECKING

from scrapy.downloadermiddlewares.httpcompression import HttpCompressionMiddleware
from scrapy.http import HtmlResponse, Response
from scrapy.utils.response import get_meta_refresh

from scrapy_session_filter.hook_errors import HookErrors
from scrapy_session_filter.inits import LOGGED_OUT
from scrapy_session_filter.tracking import is_inline, is_robots
from scrapy_session_filter.verdict import KIND_OK, OK, Kind, Strength, Verdict
from scrapy_session_filter.verdicts import Answer, Stopwatch

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler

    from scrapy_session_filter.extension import SessionFilterExtension
    from scrapy_session_filter.session import Lease

SPIDER_HOOK = "session_filter_blocked"


class AnswerJudge:
    """Comes to one verdict on each answer of a crawl."""

    def __init__(self, crawler: Crawler, extension: SessionFilterExtension) -> None:
        self._crawler = crawler
        self._extension = extension
        settings = crawler.settings
        self._redirects = settings.getbool("REDIRECT_ENABLED")
        self._refreshes = settings.getbool("METAREFRESH_ENABLED")
        self._ignored_tags = settings.getlist("METAREFRESH_IGNORE_TAGS")
        self._longest_refresh = settings.getint("METAREFRESH_MAXDELAY")
        self._errors = HookErrors(extension.count)
        self._stopwatch = Stopwatch()

    async def answer(
        self, request: Request, response: Response, lease: Lease
    ) -> tuple[Response, Verdict]:
        """Return the response, its body decoded, and the verdict.

        The crawler's own HttpCompressionMiddleware decodes: it finds nothing left to do when its turn
        comes. Raises what it raises (IgnoreRequest for a body that would grow too large).
        """
        waiting = self._extension.verdicts
        early = waiting.pop(lease.id, None) if waiting else None
        if dict.__contains__(response.headers, b"Content-Encoding"):  # else normalised once more
            response = self._decode(request, response)
        if early is not None:
            return response, early
        verdict = self._judged(request, response, lease)
        if self._has_hooks:
            verdict = await self._ask_hooks(request, response, lease, verdict)
        return response, verdict

    async def before_cache(self, request: Request, response: Response, lease: Lease) -> Verdict:
        """Judge an answer before the HTTP cache sees it; `answer` will come to the same verdict."""
        verdict = self._judged(request, response, lease)
        if self._has_hooks:
            try:
                copy = self._uncounted.process_response(request, response.copy())
            except Exception:  # noqa: BLE001 - `answer` meets it again, and lets it be seen
                return verdict
            copy = copy.replace(request=request) if isinstance(copy, Response) else response
            verdict = await self._ask_hooks(request, copy, lease, verdict)
        self._extension.verdicts[lease.id] = verdict
        return verdict

    def _judged(self, request: Request, response: Response, lease: Lease) -> Verdict:
        answer, judge = Answer.of_scrapy(response, request), self._extension.judge
        if is_robots(request):
            return judge.answer(answer)
        return judge.seen(lease.site, lease.session.id, answer)

    @cached_property
    def _uncounted(self) -> HttpCompressionMiddleware:
        """Another HttpCompressionMiddleware, or none of its stats would be right."""
        middleware = HttpCompressionMiddleware(crawler=self._crawler)
        middleware.stats = None
        return middleware

    def _decode(self, request: Request, response: Response) -> Response:
        middleware = self._crawler.get_downloader_middleware(HttpCompressionMiddleware)
        if middleware is None:
            return response
        decoded = middleware.process_response(request=request, response=response)
        return decoded if isinstance(decoded, Response) else response

    @property
    def _has_hooks(self) -> bool:
        return self._extension.inits is not None or hasattr(self._crawler.spider, SPIDER_HOOK)

    async def _ask_hooks(
        self, request: Request, response: Response, lease: Lease, verdict: Verdict
    ) -> Verdict:
        """Return what the spider makes of a verdict; `LOGGED_OUT` where the session is."""
        if hasattr(self._crawler.spider, SPIDER_HOOK):
            verdict = await self._ask_spider(request, response, verdict)
        inits = self._extension.inits
        if inits is not None and await inits.is_logged_out(request, response, lease, verdict):
            return LOGGED_OUT
        return verdict

    async def _ask_spider(self, request: Request, response: Response, verdict: Verdict) -> Verdict:
        hook = getattr(self._crawler.spider, SPIDER_HOOK)
        if hook is None or verdict.kind is Kind.PROXY_ERROR or is_robots(request):
            return verdict
        response.request = request
        started = time.perf_counter()
        try:
            opinion = hook(response)
            self._stopwatch.stop(SPIDER_HOOK, started)
            if inspect.isawaitable(opinion):
                opinion = await opinion
        except Exception as error:  # noqa: BLE001 - a spider may raise anything; the crawl goes on
            self._ignore(f"raised {type(error).__name__}", error)
            return verdict
        if opinion is None:
            return verdict
        if not isinstance(opinion, bool):
            self._ignore(f"returned a {type(opinion).__name__}, not a bool")
            return verdict
        if not opinion:
            return OK if verdict.is_block else verdict
        if verdict.is_block:
            return verdict
        return Verdict(Kind.BLOCKED, "spider", Strength.STRONG)

    def _ignore(self, what: str, error: Exception | None = None) -> None:
        self._errors.note(f"{SPIDER_HOOK} {what}; its opinion is not heard", error)

    def failure(self, request: Request, exception: Exception, lease: Lease) -> Verdict:
        """Return the verdict on a failed download."""
        return self._extension.judge.exception(
            exception, request, proxied=lease.session.endpoint is not None
        )

    def is_followed(self, request: Request, response: Response, verdict: Verdict) -> bool:
        """Return whether an answer says nothing yet: a redirect that Scrapy is going to follow."""
        if verdict.kind is not KIND_OK:
            return False
        if 300 <= response.status < 400:
            return (
                "Location" in response.headers
                and self._redirects
                and not request.meta.get("dont_redirect")
                and not self._is_handled(request, response)
            )
        if (
            not self._refreshes
            or not isinstance(response, HtmlResponse)
            or b"refresh" not in response.body[:4096].lower()  # as far as get_meta_refresh looks
            or request.method == "HEAD"
            or request.meta.get("dont_redirect")
        ):
            return False
        seconds, url = get_meta_refresh(response, ignore_tags=self._ignored_tags)
        return bool(url) and seconds is not None and seconds < self._longest_refresh

    def wants_anyway(self, request: Request, response: Response) -> bool:
        """Return whether the user asked for this very answer: it is scored, and passed on.

        The media pipelines set ``handle_httpstatus_list`` by themselves: that is not the user's wish.
        """
        if is_inline(request):
            return bool(request.meta.get("dont_retry"))
        return bool(request.meta.get("dont_retry")) or self._is_handled(request, response)

    def _is_handled(self, request: Request, response: Response) -> bool:
        meta, status = request.meta, response.status
        return bool(
            meta.get("handle_httpstatus_all")
            or status in meta.get("handle_httpstatus_list", ())
            or status in getattr(self._crawler.spider, "handle_httpstatus_list", ())
        )
