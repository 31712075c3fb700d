"""What is done in a page while scrapy-playwright loads it: watch its answers, read its storage."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scrapy.http import Headers, HtmlResponse, Response
from scrapy.utils.misc import load_object

from scrapy_session_filter.engines.base import PARTIAL
from scrapy_session_filter.engines.browser_state import READ_STORAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scrapy import Request

LOOK = 5.0
"""Seconds that a page on which something failed may take to say what it shows."""

_OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding", "set-cookie")
_EMPTY_ERROR = "ERR_HTTP_RESPONSE_CODE_FAILURE"


class Watched:
    """A page under way; called by scrapy-playwright as the page's init callback.

    ``own`` is the request's own init callback. ``storage`` is what the page had in local storage.
    """

    def __init__(self, own: Any) -> None:
        self.storage: object = None
        self._own = own
        self._documents: list[tuple[str, int, list[tuple[str, str]]]] = []
        self._page: Any = None
        self._shown: str | None = None  # when something failed

    async def __call__(self, page: Any, request: Request) -> None:
        """Begin to watch; then the request's own callback has its turn."""
        self._page = page
        page.on("response", self._note)
        page.goto = self._looking(page, page.goto)
        if self._own is not None:
            await load_object(self._own)(page, request)

    def _note(self, response: Any) -> None:
        with suppress(Exception):  # answers of workers have no frame; the page may be gone
            if response.request.is_navigation_request() and response.frame.parent_frame is None:
                headers = response.headers
                self._documents.append((response.url, response.status, list(headers.items())))

    def _looking(self, page: Any, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return a step that looks what the page shows when it fails: later the page is closed."""

        async def look(*args: Any, **kwargs: Any) -> Any:
            try:
                result = step(*args, **kwargs)
                return await result if inspect.isawaitable(result) else result
            except Exception:
                with suppress(Exception):
                    self._shown = await asyncio.wait_for(page.content(), LOOK)
                raise

        return look

    def methods(self, own: Any) -> list[Any]:
        """Return the request's page methods, and one more that reads the local storage."""
        page_method = load_object("scrapy_playwright.page.PageMethod")
        page_class = load_object("playwright.async_api.Page")
        methods: Iterable[Any] = own.values() if isinstance(own, dict) else own or ()

        def looked_at(method: Any) -> Any:
            known = callable(method.method) or hasattr(page_class, method.method)
            return page_method(partial(self._do, method)) if known else method

        return [
            *(looked_at(m) if isinstance(m, page_method) else m for m in methods),
            page_method(self._read_storage),
        ]

    async def _do(self, method: Any, page: Any) -> None:
        """Do as scrapy-playwright does with a page method."""
        step = (
            partial(method.method, page)
            if callable(method.method)
            else getattr(page, method.method)
        )
        method.result = await self._looking(page, step)(*method.args, **method.kwargs)

    async def _read_storage(self, page: Any) -> None:
        with suppress(Exception):  # a page of no site has none, a closed one does not answer
            self.storage = await page.evaluate(READ_STORAGE)

    def answer(self, request: Request, result: Response | Exception) -> Response | None:
        """Return what the site answered, as far as it differs from what scrapy-playwright says.

        A page that went on by itself (a challenge that was passed) has the status of its last
        document. An error page of the browser's own for an answer without a body is that answer. An
        exception after the site had answered is marked: the proxy did its part; what the page showed
        then is returned as `PARTIAL`.
        """
        if self._page is not None:
            with suppress(Exception):
                self._page.remove_listener("response", self._note)
                del self._page.goto
        if not self._documents:
            return None
        url, status, headers = self._documents[-1]
        if isinstance(result, Response):
            if status == result.status or 300 <= status < 400:
                return None
            return result.replace(status=status)
        empty = _EMPTY_ERROR in str(result) and status >= 400
        result.answered = True  # type: ignore[attr-defined]
        if not empty and self._shown is None:
            return None
        flags = ["playwright"] if empty else ["playwright", PARTIAL]
        fields = Headers({name: v for name, v in headers if name.lower() not in _OF_THE_WIRE})
        body = "" if empty else self._shown or ""
        return HtmlResponse(
            url, status, fields, body.encode(), flags=flags, request=request, encoding="utf-8"
        )


async def own_headers_first(
    *, browser_type_name: str, playwright_request: Any, scrapy_request_data: dict[str, Any]
) -> dict[str, str]:
    """Send the browser's own headers; on the page itself those that the request brought win.

    Accept-Language is the session's on everything: from a locale the browser makes one language only.

    For PLAYWRIGHT_PROCESS_REQUEST_HEADERS, where the project has not set it: scrapy-playwright's
    default replaces what the browser would say of itself.
    """
    headers: dict[str, str] = dict(await playwright_request.all_headers())
    own = scrapy_request_data["headers"].to_unicode_dict()
    brought = {name.lower(): value for name, value in own.items()}
    if not playwright_request.is_navigation_request():
        headers |= {name: value for name, value in brought.items() if name == "accept-language"}
    else:
        headers |= brought
        if browser_type_name == "firefox":  # else it fails with NS_ERROR_NET_RESET
            headers["host"] = urlsplit(playwright_request.url).netloc
    return headers
