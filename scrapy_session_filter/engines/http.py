"""The core HTTP handlers: proxy and credentials, headers, cookie jar and time-out on the request."""

from __future__ import annotations

import base64
from functools import cached_property
from typing import TYPE_CHECKING, Any

from scrapy.downloadermiddlewares.useragent import UserAgentMiddleware
from scrapy.utils.python import to_bytes, without_none_values

from scrapy_session_filter.engines.base import EngineBinding
from scrapy_session_filter.engines.cookies import META_KEY as JAR_KEY
from scrapy_session_filter.engines.cookies import SessionJars

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler

    from scrapy_session_filter.session import Session

_PROXY_AUTH = b"Proxy-Authorization"


class HttpBinding(EngineBinding):
    """Puts a session on requests for handlers that honour ``meta["proxy"]`` and the headers.

    ``first_timeout`` (seconds, 0: none) bounds the download time of a session not yet proven.
    """

    def __init__(self, crawler: Crawler, first_timeout: float) -> None:
        self._crawler = crawler
        self._first_timeout = first_timeout
        self._auth_encoding: str = crawler.settings["HTTPPROXY_AUTH_ENCODING"]
        self._jars = SessionJars(crawler)

    def put_on(self, request: Request, session: Session) -> dict[str, Any]:
        """Set proxy, headers, cookie jar and time-out of the session.

        A header that differs from what Scrapy's own middlewares set by default is the request's own,
        and stays.
        """
        self.scrub(request)  # nothing of another session's, whoever put it there
        endpoint = session.endpoint
        request.meta["proxy"] = endpoint.url(session.id) if endpoint is not None else None
        headers, defaults = request.headers, self._defaults
        ours = []
        # An impersonated browser brings the headers that agree with its TLS handshake.
        for name, value in () if request.meta.get("impersonate") else session.headers.items():
            present = headers.get(name)
            if present is None or present == defaults.get(name.lower().encode()):
                headers[name] = value
                ours.append(name)
        self._jars.attach(request, session)
        marks: dict[str, Any] = {"headers": ours}
        timeout = request.meta.get("download_timeout")
        if self._first_timeout and not session.proven and (timeout or 1e9) > self._first_timeout:
            marks["timeout"] = timeout
            request.meta["download_timeout"] = self._first_timeout
        return marks

    def carries(self, request: Request, session: Session) -> bool:
        """Compare proxy, credentials and jar on the request with the session's."""
        meta, endpoint = request.meta, session.endpoint
        if meta.get(JAR_KEY) != session.id:
            return False
        if endpoint is None:
            return meta.get("proxy") is None and _PROXY_AUTH not in request.headers
        return meta.get("proxy") == endpoint.server and request.headers.get(
            _PROXY_AUTH
        ) == self._authorization(session)

    def _authorization(self, session: Session) -> bytes | None:
        credentials = session.endpoint.credentials(session.id) if session.endpoint else None
        if credentials is None:
            return None
        plain = to_bytes(":".join(credentials), encoding=self._auth_encoding)
        return b"Basic " + base64.b64encode(plain)

    def scrub(self, request: Request) -> None:
        """Remove the proxy's credentials, and the session's cookies where a jar will set them anew."""
        request.headers.pop(_PROXY_AUTH, None)
        request.meta.pop("_auth_proxy", None)
        if not request.meta.get("dont_merge_cookies") and JAR_KEY in request.meta:
            request.headers.pop(b"Cookie", None)

    def take_off(self, request: Request, marks: dict[str, Any]) -> None:
        """Remove all that `put_on` set; Scrapy's middlewares set their defaults again."""
        self.scrub(request)
        request.meta.pop("proxy", None)
        request.meta.pop(JAR_KEY, None)
        for name in marks.get("headers", ()):
            request.headers.pop(name, None)
        if "timeout" in marks:
            if marks["timeout"] is None:
                request.meta.pop("download_timeout", None)
            else:
                request.meta["download_timeout"] = marks["timeout"]

    def remember(self, session: Session) -> None:
        """Save the session's cookies."""
        self._jars.remember(session)

    def idle(self, session: Session) -> None:
        """Drop an empty jar."""
        self._jars.idle(session)

    def forget(self, session: Session) -> None:
        """Drop the session's jar."""
        self._jars.forget(session)

    @cached_property
    def _defaults(self) -> dict[bytes, bytes]:
        """What DefaultHeadersMiddleware and UserAgentMiddleware set where a request has nothing."""
        settings = self._crawler.settings
        defaults = {
            to_bytes(name).lower(): to_bytes(value)
            for name, value in without_none_values(settings["DEFAULT_REQUEST_HEADERS"]).items()
        }
        middleware = self._crawler.get_downloader_middleware(UserAgentMiddleware)
        if middleware is not None and middleware.user_agent:
            defaults[b"user-agent"] = to_bytes(middleware.user_agent)
        return defaults
