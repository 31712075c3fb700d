"""The spider that most tests need: fetches given URLs and tells how each of them ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import scrapy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from twisted.python.failure import Failure


class PagesSpider(scrapy.Spider):
    """Argument ``requests``: a JSON list of URLs, or of keyword arguments of `scrapy.Request`.

    Yields ``{url, final, status, title, echo, session, verdict, flags}`` for a page that reached
    the callback (``url`` is the one asked for, ``final`` the last after redirects, ``echo`` what
    ``/echo`` says), and ``{url, error, message}`` for one that reached the errback.
    """

    name = "pages"

    def __init__(self, requests: str = "[]", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.requests = json.loads(requests)

    async def start(self) -> AsyncIterator[Any]:
        for entry in self.requests:
            fields: dict[str, Any] = {"url": entry} if isinstance(entry, str) else dict(entry)
            fields["meta"] = {"asked": fields["url"], **fields.get("meta", {})}
            yield scrapy.Request(**fields, callback=self.parse, errback=self.failed)

    def parse(self, response: scrapy.http.Response) -> Any:
        html = isinstance(response, scrapy.http.HtmlResponse)
        yield {
            "url": response.meta["asked"],
            "final": response.url,
            "status": response.status,
            "title": response.css("title::text").get() if html else None,
            "echo": response.json() if isinstance(response, scrapy.http.JsonResponse) else None,
            "session": response.meta.get("session_filter_session"),
            "verdict": response.meta.get("session_filter_verdict"),
            "flags": response.flags,
        }

    def failed(self, failure: Failure) -> Any:
        yield {
            "url": failure.request.meta["asked"],  # type: ignore[attr-defined]
            "error": type(failure.value).__name__,
            "message": failure.getErrorMessage(),
        }
