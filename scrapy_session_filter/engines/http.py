"""The core HTTP handlers: proxy and credentials, headers, cookie jar and time-out on the request."""

from __future__ import annotations

import base64
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from scrapy.downloadermiddlewares.useragent import UserAgentMiddleware
from scrapy.http import Headers
from scrapy.utils.python import to_bytes, without_none_values

from scrapy_session_filter.engines.base import EngineBinding
from scrapy_session_filter.engines.cookies import META_KEY as JAR_KEY
from scrapy_session_filter.engines.cookies import SessionJars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scrapy import Request
    from scrapy.crawler import Crawler
    from typing_extensions import Self

    from scrapy_session_filter.proxies import ProxyEndpoint
    from scrapy_session_filter.session import Session
    from scrapy_session_filter.settings import SessionFilterSettings

_PROXY_AUTH = b"Proxy-Authorization"

PREPARED_SETS = 1024
"""Header sets kept ready for use; desktop browsers in use differ in some hundred."""

_Prepared = tuple[bytes, bytes, "list[bytes] | None", str]


@lru_cache(maxsize=4096)
def _url(endpoint: ProxyEndpoint, session_id: str) -> str:
    return endpoint.url(session_id)


@lru_cache(maxsize=4096)
def _authorization(endpoint: ProxyEndpoint, session_id: str, encoding: str) -> bytes | None:
    credentials = endpoint.credentials(session_id)
    if credentials is None:
        return None
    return b"Basic " + base64.b64encode(to_bytes(":".join(credentials), encoding=encoding))


def _address(proxy: str | None) -> str | None:
    """Return a proxy URL without the credentials, which HttpProxyMiddleware takes off."""
    return None if proxy is None else proxy.rpartition("@")[2].rpartition("://")[2]


class HttpBinding(EngineBinding):
    """Puts a session on requests for handlers that honour ``meta["proxy"]`` and the headers.

    ``first_timeout`` (seconds, 0: none) bounds the download time of a session not yet proven.
    """

    handlers: ClassVar[tuple[str, ...]] = (
        "scrapy.core.downloader.handlers.http11.HTTP11DownloadHandler",
        "scrapy.core.downloader.handlers.http2.H2DownloadHandler",  # for sessions without a proxy
        "scrapy.core.downloader.handlers._base_http.BaseHttpDownloadHandler",
    )

    sends_headers: ClassVar[bool] = True
    """Whether the session's headers go on the request; a browser brings its own."""

    @classmethod
    def from_crawler(cls, crawler: Crawler, settings: SessionFilterSettings) -> Self:
        """Take the time-out from the settings."""
        return cls(crawler, settings.first_timeout)

    def __init__(self, crawler: Crawler, first_timeout: float) -> None:
        self._crawler = crawler
        self._first_timeout = first_timeout
        self._auth_encoding: str = crawler.settings["HTTPPROXY_AUTH_ENCODING"]
        self._jars = SessionJars(crawler)
        self._prepared_sets: dict[int, tuple[Mapping[str, str], list[_Prepared]]] = {}

    def put_on(self, request: Request, session: Session) -> dict[str, Any]:
        """Set proxy, headers, cookie jar and time-out of the session.

        A header that differs from what Scrapy's own middlewares set by default is the request's own,
        and stays.
        """
        self.scrub(request)  # nothing of another session's, whoever put it there
        endpoint, meta = session.endpoint, request.meta
        meta["proxy"] = None if endpoint is None else _url(endpoint, session.id)
        ours: dict[str, bytes] = {}
        if self.sends_headers:
            headers = request.headers
            for key, value, default, name in self._prepared(session.headers):
                present = dict.get(headers, key)
                if present is None or present == default:
                    dict.__setitem__(headers, key, [value])
                    ours[name] = value
        self._jars.attach(request, session)
        marks: dict[str, Any] = {"headers": ours, "proxy": endpoint.server if endpoint else None}
        if self._first_timeout and not session.proven:
            timeout = meta.get("download_timeout")
            if (timeout or 1e9) > self._first_timeout:
                marks["timeout"] = timeout
                meta["download_timeout"] = self._first_timeout
        return marks

    def carries(self, request: Request, session: Session) -> bool:
        """Compare proxy, credentials and jar on the request with the session's."""
        meta, endpoint = request.meta, session.endpoint
        if meta.get(JAR_KEY) != session.id:
            return False
        if endpoint is None:
            return meta.get("proxy") is None and _PROXY_AUTH not in request.headers
        if meta.get("proxy") != endpoint.server:
            return False
        expected = _authorization(endpoint, session.id, self._auth_encoding)
        carried = dict.get(request.headers, _PROXY_AUTH)  # normalised already, see `scrub`
        return carried == (None if expected is None else [expected])

    def scrub(self, request: Request) -> None:
        """Remove the proxy's credentials, and the session's cookies where a jar will set them anew."""
        headers, meta = request.headers, request.meta
        # Names are normalised already; Headers would do it again at every access.
        dict.pop(headers, _PROXY_AUTH, None)
        meta.pop("_auth_proxy", None)
        if JAR_KEY in meta and self._jars.enabled and not meta.get("dont_merge_cookies"):
            dict.pop(headers, b"Cookie", None)

    def take_off(self, request: Request, marks: dict[str, Any]) -> None:
        """Remove all that `put_on` set; Scrapy's middlewares set their defaults again.

        A proxy or header that the request got since then is its own, and stays: it was made with
        copied meta.
        """
        self.scrub(request)
        if _address(request.meta.get("proxy")) == _address(marks["proxy"]):
            request.meta.pop("proxy", None)
        request.meta.pop(JAR_KEY, None)
        for name, value in marks["headers"].items():
            if request.headers.get(name) == value:
                request.headers.pop(name, None)
        if "timeout" in marks:
            if marks["timeout"] is None:
                request.meta.pop("download_timeout", None)
            else:
                request.meta["download_timeout"] = marks["timeout"]

    def leave_own(self, request: Request, session: Session) -> None:
        """Remove the session's headers and Scrapy's defaults; leave what the request brought."""
        ours = [(key, value) for key, value, _, _ in self._prepared(session.headers)]
        defaults = [(key, values[-1]) for key, values in self._defaults.items() if values]
        for key, value in (*ours, *defaults):
            if request.headers.get(key) == value:
                request.headers.pop(key)

    def remember(self, session: Session) -> None:
        """Save the session's cookies."""
        self._jars.remember(session)

    def forget(self, session: Session) -> None:
        """Drop the session's jar."""
        self._jars.forget(session)

    @cached_property
    def _defaults(self) -> Headers:
        """What DefaultHeadersMiddleware and UserAgentMiddleware set where a request has nothing."""
        settings = self._crawler.settings
        defaults = dict(without_none_values(settings.getdict("DEFAULT_REQUEST_HEADERS")))
        middleware = self._crawler.get_downloader_middleware(UserAgentMiddleware)
        if middleware is not None and middleware.user_agent:
            defaults["User-Agent"] = middleware.user_agent
        return Headers(defaults)

    def _prepared(self, headers: Mapping[str, str]) -> list[_Prepared]:
        """Return a session's headers as Scrapy keeps them, with the defaults they may replace.

        Header sets are shared by many sessions, so few are kept; `Headers` normalises them once.
        """
        known = self._prepared_sets.get(id(headers))
        if known is None or known[0] is not headers:
            if len(self._prepared_sets) >= PREPARED_SETS:
                self._prepared_sets.clear()
            prepared = [
                (key, values[-1], dict.get(self._defaults, key), key.decode("latin-1"))
                for key, values in Headers(headers).items()
            ]
            known = self._prepared_sets[id(headers)] = (headers, prepared)
        return known[1]
