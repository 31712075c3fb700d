"""The core HTTP handlers: proxy and credentials, headers, cookie jar and time-out on the request."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
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

PREPARED = 4096
"""Sessions, and header sets, that are kept ready for use."""


@dataclass(frozen=True, slots=True, eq=False)
class _HeaderSet:
    """Headers as Scrapy keeps them; many sessions may share them."""

    headers: Mapping[str, str]
    replacing: list[tuple[bytes, bytes, list[bytes] | None, str]]  #: with Scrapy's defaults
    values: dict[str, bytes]  #: the headers once more, under the names that marks have


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # its repr would show credentials
class _Wire:
    """What of a session goes on its requests, as Scrapy has it there."""

    endpoint: ProxyEndpoint | None
    url: str | None  #: of the proxy, with the credentials that HttpProxyMiddleware takes off
    server: str | None  #: what it leaves
    authorization: list[bytes] | None  #: what it makes of them
    sent: _HeaderSet


def _address(proxy: str | None) -> str | None:
    """Return a proxy URL without the credentials, which HttpProxyMiddleware takes off."""
    return None if proxy is None else proxy.rpartition("@")[2].rpartition("://")[2]


class HttpBinding(EngineBinding):
    """Puts a session on requests for handlers that honour ``meta["proxy"]`` and the headers.

    ``first_timeout`` (seconds, 0: none) bounds the download time of a session not yet proven, unless
    the request or the spider has a time-out of its own.
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
        self._timeout = crawler.settings.getfloat("DOWNLOAD_TIMEOUT")
        self._auth_encoding: str = crawler.settings["HTTPPROXY_AUTH_ENCODING"]
        self._jars = SessionJars(crawler)
        self._wires: dict[str, _Wire] = {}
        self._header_sets: dict[int, _HeaderSet] = {}

    def put_on(self, request: Request, session: Session) -> dict[str, Any]:
        """Set proxy, headers, cookie jar and time-out of the session.

        A header that differs from what Scrapy's own middlewares set by default is the request's own,
        and stays.
        """
        self.scrub(request)  # nothing of another session's, whoever put it there
        meta, wire = request.meta, self._wire(session)
        meta["proxy"] = wire.url
        ours: dict[str, bytes] = {}
        if self.sends_headers:
            headers, ours = request.headers, wire.sent.values
            for key, value, default, name in wire.sent.replacing:
                present = dict.get(headers, key)
                if present is None or present == default:
                    dict.__setitem__(headers, key, [value])
                else:
                    ours = {**ours}
                    del ours[name]
        self._jars.attach(request, session)
        marks: dict[str, Any] = {"headers": ours, "proxy": wire.server}
        if self._first_timeout and not session.proven:
            timeout = meta.get("download_timeout")
            if timeout in (None, self._timeout) and (timeout or 1e9) > self._first_timeout:
                marks["timeout"] = timeout
                meta["download_timeout"] = self._first_timeout
        return marks

    def carries(self, request: Request, session: Session) -> bool:
        """Compare proxy, credentials and jar on the request with the session's."""
        meta, wire = request.meta, self._wire(session)
        return (
            meta.get(JAR_KEY) == session.id
            and meta.get("proxy") == wire.server
            and dict.get(request.headers, _PROXY_AUTH) == wire.authorization
        )

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
        ours = [(key, value) for key, value, _, _ in self._wire(session).sent.replacing]
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
        self._wires.pop(session.id, None)

    @cached_property
    def _defaults(self) -> Headers:
        """What DefaultHeadersMiddleware and UserAgentMiddleware set where a request has nothing."""
        settings = self._crawler.settings
        defaults = dict(without_none_values(settings.getdict("DEFAULT_REQUEST_HEADERS")))
        middleware = self._crawler.get_downloader_middleware(UserAgentMiddleware)
        if middleware is not None and middleware.user_agent:
            defaults["User-Agent"] = middleware.user_agent
        return Headers(defaults)

    def _wire(self, session: Session) -> _Wire:
        """Return what goes on the session's requests, made once while its exit and headers stay."""
        wire = self._wires.get(session.id)
        if (
            wire is None
            or wire.endpoint is not session.endpoint
            or wire.sent.headers is not session.headers
        ):
            if len(self._wires) >= PREPARED:
                self._wires.clear()
            wire = self._wires[session.id] = self._make_wire(session)
        return wire

    def _make_wire(self, session: Session) -> _Wire:
        url = server = authorization = None
        if (endpoint := session.endpoint) is not None:
            url, server = endpoint.url(session.id), endpoint.server
            if (credentials := endpoint.credentials(session.id)) is not None:
                text = to_bytes(":".join(credentials), encoding=self._auth_encoding)
                authorization = [b"Basic " + base64.b64encode(text)]
        return _Wire(endpoint, url, server, authorization, self._header_set(session.headers))

    def _header_set(self, headers: Mapping[str, str]) -> _HeaderSet:
        """Return headers as Scrapy keeps them: `Headers` normalises a set that is shared only once."""
        known = self._header_sets.get(id(headers))
        if known is None or known.headers is not headers:
            if len(self._header_sets) >= PREPARED:
                self._header_sets.clear()
            normal = [
                (key, values[-1], key.decode("latin-1")) for key, values in Headers(headers).items()
            ]
            known = self._header_sets[id(headers)] = _HeaderSet(
                headers,
                [(key, value, dict.get(self._defaults, key), name) for key, value, name in normal],
                {name: value for _, value, name in normal},
            )
        return known
