"""scrapy-playwright: a session is a browser context of its own.

Its proxy, User-Agent, languages, cookies and local storage are the session's, and what the browser
got of cookies goes back into the session's jar, so that the HTTP engine may go on as the same visitor.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from scrapy.downloadermiddlewares.retry import RetryMiddleware
from scrapy.utils.httpobj import urlparse_cached
from scrapy.utils.misc import load_object

from scrapy_session_filter.components import OWNED
from scrapy_session_filter.engines.base import EngineBinding
from scrapy_session_filter.engines.browser_cookies import BrowserCookies
from scrapy_session_filter.engines.browser_options import ContextOptions, proxy_of
from scrapy_session_filter.engines.browser_pages import Watched, own_headers_first
from scrapy_session_filter.engines.contexts import Contexts
from scrapy_session_filter.engines.fitting import ask_browser
from scrapy_session_filter.engines.http import HttpBinding
from scrapy_session_filter.identities import FakeUserAgentSource, NoIdentity
from scrapy_session_filter.session import State
from scrapy_session_filter.tracking import PIN

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.http import Headers, Response
    from typing_extensions import Self

    from scrapy_session_filter.engines.browser_state import Key, Row
    from scrapy_session_filter.engines.contexts import Context
    from scrapy_session_filter.engines.fitting import RunningBrowser
    from scrapy_session_filter.session import Session
    from scrapy_session_filter.settings import SessionFilterSettings

_PAGE, _CONTEXT, _KWARGS = "playwright_page", "playwright_context", "playwright_context_kwargs"
_GOTO, _INIT = "playwright_page_goto_kwargs", "playwright_page_init_callback"
_METHODS = "playwright_page_methods"
_UNMERGED = "dont_merge_cookies"
_LENT = (_KWARGS, _GOTO, _INIT, _METHODS)  # meta that is ours for the time of a download
_MISSING = object()


@dataclass
class _Attempt:
    """What has to be put back after a download."""

    context: Context
    headers: Headers
    meta: dict[str, Any]
    watched: Watched


class PlaywrightBinding(EngineBinding):
    """Puts sessions on requests with meta ``playwright``."""

    handlers: ClassVar[tuple[str, ...]] = (
        "scrapy_playwright.handler.ScrapyPlaywrightDownloadHandler",
    )
    awaits = True

    @classmethod
    def from_crawler(cls, crawler: Crawler, settings: SessionFilterSettings) -> Self:
        """Make the binding; whether there is a browser is found out in `open`."""
        return cls(crawler, settings)

    def __init__(self, crawler: Crawler, settings: SessionFilterSettings) -> None:
        self._crawler = crawler
        self._settings = settings
        self._http = HttpBinding(crawler, settings.first_timeout)
        self._cookies = BrowserCookies(crawler)
        self._options = ContextOptions(settings.browser_context, self.count)
        self._contexts = Contexts(self.count, time.monotonic)
        self._attempts: WeakKeyDictionary[Request, _Attempt] = WeakKeyDictionary()
        self._running: RunningBrowser | None = None
        #: else the project's own function for headers, or Scrapy's headers, are sent as always
        self._own_processor = (
            "PLAYWRIGHT_PROCESS_REQUEST_HEADERS" not in crawler.settings
            and not isinstance(settings.identities, NoIdentity)
        )

    async def open(self) -> None:
        """Find out which browser runs; raises `ConfigurationError` where none starts."""
        any_system = not isinstance(self._settings.identities, FakeUserAgentSource)
        self._running = await ask_browser(self._crawler.settings, any_system=any_system)
        retry = self._crawler.get_downloader_middleware(RetryMiddleware)
        if retry is not None and not self._crawler.settings.getpriority("RETRY_EXCEPTIONS"):
            # SITE_ERRORs are Scrapy's to try again, and by default it knows none of Playwright's.
            known = retry.exceptions_to_retry
            retry.exceptions_to_retry = (*known, load_object("playwright.async_api.Error"))

    async def close(self) -> None:
        """Close all contexts."""
        await self._contexts.close()

    def serves(self, request: Request) -> bool:
        """Return whether scrapy-playwright will fetch this with a browser."""
        return bool(request.meta.get("playwright"))

    def refusal(self, request: Request) -> str | None:
        """Refuse what would bring another visitor along; an open page pins the request.

        A page of a session's context belongs to that session: the request gets meta
        ``session_filter_session``, unless it has one.
        """
        kwargs = request.meta.get(_KWARGS) or {}
        if owned := [name for name in OWNED if name in kwargs]:
            return f"its {_KWARGS} bring {owned[0]!r}, which is the session's"
        page = request.meta.get(_PAGE)
        if page is None:
            return None
        if getattr(page, "is_closed", lambda: True)():
            del request.meta[_PAGE]
            return None
        context = self._contexts.context_of(page)
        if context is None:
            return f'its "{_PAGE}" is of no session\'s context'
        if request.meta.setdefault(PIN, context.session.id) != context.session.id:
            return f'its "{_PAGE}" is of another session than meta "{PIN}"'
        return None

    # -- sessions ----------------------------------------------------------------------------------

    def adopt(self, session: Session) -> None:
        """Make the session's headers agree with the browser, and choose how its contexts are."""
        chosen = self._options.chosen(session)
        if self._running is not None:
            session.headers = self._running.fit(session.headers, chosen.get("locale"))

    def remember(self, session: Session) -> None:
        """Close the contexts of a session that rests."""
        if session.state is not State.LIVE:
            self._contexts.dismiss(session)

    def forget(self, session: Session) -> None:
        """Close the contexts of a session that is gone."""
        self._contexts.dismiss(session, unloaded=True)

    # -- requests ----------------------------------------------------------------------------------

    def put_on(self, request: Request, session: Session) -> dict[str, Any]:
        """Set headers, jar and the context's name; the proxy is the context's, not the request's."""
        marks = self._http.put_on(request, session)
        request.meta["proxy"] = marks["proxy"] = None
        request.meta[_CONTEXT] = session.id
        marks["unmerged"] = request.meta.get(_UNMERGED)
        return marks

    async def prepare(self, request: Request, session: Session) -> bool:
        """Have the session's context open, with the session's cookies, and the request go there."""
        handler = self._handler(request)
        own = request.meta.get(_KWARGS) or {}
        context = await self._contexts.claim(
            handler,
            session,
            request,
            patience=self._settings.wait_timeout,
            kwargs=lambda: self._new_context(session, own),
        )
        if context is None:
            return False
        meta = request.meta
        watched = Watched(meta.get(_INIT))
        self._attempts[request] = _Attempt(
            context,
            request.headers.copy(),
            {name: meta.get(name, _MISSING) for name in _LENT},
            watched,
        )
        await self._cookies.bring(context)
        meta[_CONTEXT] = context.name
        # Should the browser crash on the way, scrapy-playwright opens a context like this one.
        meta[_KWARGS] = self._new_context(session, own)[0]
        meta[_INIT] = watched
        meta[_METHODS] = watched.methods(meta.get(_METHODS))
        meta[_GOTO] = self._goto_kwargs(request)
        # The browser's cookies go into the jar as they are in the end, not as headers set them.
        meta[_UNMERGED] = True
        self._leave_own_headers(request)
        return True

    def carries(self, request: Request, session: Session) -> bool:
        """Compare the context that waits for the request with the session's."""
        attempt = self._attempts.get(request)
        page = request.meta.get(_PAGE)
        return (
            attempt is not None
            and attempt.context.session is session
            and attempt.context.browser_context is not None
            and request.meta.get(_CONTEXT) == attempt.context.name
            and request.meta[_KWARGS].get("proxy") == proxy_of(session)
            and "Proxy-Authorization" not in request.headers
            and (
                page is None or page.is_closed() or page.context is attempt.context.browser_context
            )
        )

    async def collect(
        self, request: Request, session: Session, result: Response | Exception
    ) -> Response | None:
        """Take the browser's cookies and storage into the session; put the request back in order.

        Returns the answer as the page shows it in the end. Chromium makes an error of an answer of
        400 and above without a body: it is an answer again.
        """
        attempt = self._put_back(request)
        if attempt is None:
            return None
        try:
            await self._cookies.take(attempt.context)
            if attempt.watched.storage is not None:
                self._options.keep_storage(session, attempt.watched.storage)
        finally:
            self._contexts.release(attempt.context, request, request.meta.get(_PAGE))
        return attempt.watched.answer(request, result)

    def _put_back(self, request: Request) -> _Attempt | None:
        """Give the request the headers and meta that it had before `prepare`."""
        attempt = self._attempts.pop(request, None)
        if attempt is None:
            return None
        request.headers.clear()
        request.headers.update(attempt.headers)
        for name, value in attempt.meta.items():
            if value is _MISSING:
                request.meta.pop(name, None)
            else:
                request.meta[name] = value
        return attempt

    def scrub(self, request: Request) -> None:
        """Remove what only the wire needs."""
        self._put_back(request)
        self._http.scrub(request)
        request.headers.pop(b"Cookie", None)

    def renew(self, request: Request) -> None:
        """Drop the page of an attempt, and close it."""
        page = request.meta.pop(_PAGE, None)
        if page is not None:
            self._contexts.close_page(page)

    def take_off(self, request: Request, marks: dict[str, Any]) -> None:
        """Undo `put_on`; a page stays, for a follow-up may go on in it."""
        self._http.take_off(request, marks)
        request.meta.pop(_CONTEXT, None)
        if request.meta.get(_UNMERGED) is True and marks.get("unmerged") is not True:
            del request.meta[_UNMERGED]

    def _leave_own_headers(self, request: Request) -> None:
        """Leave the browser to write its own headers; only what the request itself brought is added."""
        if not self._own_processor:
            return
        languages = request.headers.get("Accept-Language")
        self._http.leave_own(request, self._attempts[request].context.session)
        if languages is not None:
            request.headers["Accept-Language"] = languages
        for name in ("Accept-Encoding", "Cookie", "Host", "Proxy-Authorization"):
            request.headers.pop(name, None)

    def _goto_kwargs(self, request: Request) -> dict[str, Any]:
        """Return the arguments of ``page.goto``, with the request's own time-out: else it has none."""
        kwargs = dict(request.meta.get(_GOTO) or {})
        timeout = request.meta.get("download_timeout")
        settings = self._crawler.settings
        if timeout and "timeout" not in kwargs:
            usual = settings["PLAYWRIGHT_DEFAULT_NAVIGATION_TIMEOUT"]
            usual = 30_000 if usual is None else float(usual)
            kwargs["timeout"] = min(timeout * 1000, usual) if usual else timeout * 1000
        return kwargs

    def _handler(self, request: Request) -> Any:
        """Return the handler that will get the request; there is one for each scheme."""
        handlers: Any = self._crawler.engine.downloader.handlers
        handler = handlers._get_handler(urlparse_cached(request).scheme)  # noqa: SLF001
        if self._own_processor:
            handler.process_request_headers = own_headers_first
        return handler

    def _new_context(self, session: Session, own: Row) -> tuple[Row, dict[Key, Row]]:
        """Return the arguments of the session's context, and the cookies in them."""
        rows = self._cookies.rows(session)
        return self._options.make(session, own, rows.values()), rows

    def count(self, event: str) -> None:
        """Count an event in the stats."""
        if self._crawler.stats is not None:
            self._crawler.stats.inc_value(f"session_filter/{event}")
