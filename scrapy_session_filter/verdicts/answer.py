"""What detectors see of an answer: read once, bounded, and never raising whatever was sent.

A body is looked at through windows. A page of at most `SHORT` bytes is seen whole; of a longer one
its first and last kilobytes. So an answer of any size costs about the same.
"""

from __future__ import annotations

from functools import lru_cache
from html import unescape
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from scrapy_session_filter.verdicts.decoding import DECODED_LIMIT, decoded
from scrapy_session_filter.verdicts.headers import ScrapyHeaders, plain_headers
from scrapy_session_filter.verdicts.visible import visible_text, without

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scrapy import Request
    from scrapy.http import Response

T = TypeVar("T")

SHORT = (
    24 * 1024
)  #: bytes; 95 in 100 block pages are shorter, and three in four ordinary pages longer
HEAD, TAIL = 24 * 1024, 4 * 1024  #: bytes seen of a longer page
DEEP = 128 * 1024  #: bytes of a longer page in which styles are skipped
EDGE = 4 * 1024  #: bytes seen at either end of a longer page with an ordinary status
#: what most pages come with; they are looked at closely only if they are thin
ORDINARY = frozenset((200, 404, 410))
RICH = 24  #: links from which on a page is content: block pages have 1 (median) to 3 (90 %)
THIN = 2048  #: characters of visible text below which a page may be nothing but a block
_URL_LIMIT = 2048
_DATA_TYPES = ("application/json", "application/xml", "text/xml", "text/plain", "text/css")
_TEXT_TYPES = (
    "text/",
    "application/json",
    "application/xml",
    "application/xhtml",
    "application/javascript",
)


class _once(Generic[T]):  # noqa: N801 - used like a function
    """A property computed when first asked for, then a plain attribute.

    functools.cached_property does the same, but up to Python 3.11 under a lock that costs more than
    most of what is computed here, several times an answer.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, answer: Any, owner: type | None = None) -> T:
        value = self._compute(answer)
        answer.__dict__[self._name] = value
        return value


class Answer:
    """One answer, as plain values.

    ``headers`` maps lower-case names to their values. ``url`` is where the answer came from,
    ``redirects`` the URLs that led there, the one asked for first. ``body`` is decoded; None where
    it could not be read. ``proxied`` is None where nobody knows. ``meta`` is the request's, to be
    read only. ``complete`` is False where ``body`` is only the beginning.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, list[str]] | None = None,
        body: bytes | None = b"",
        url: str = "",
        *,
        redirects: tuple[str, ...] = (),
        method: str = "GET",
        proxied: bool | None = None,
        meta: Mapping[str, Any] | None = None,
        complete: bool = True,
    ) -> None:
        self.status = status
        self.headers: Mapping[str, list[str]] = {} if headers is None else headers
        if body and body.startswith((b"\xff\xfe", b"\xfe\xff")):
            body = body[2 : 4 * SHORT].replace(b"\0", b"")  # UTF-16: ASCII markers become readable
        self.body = body
        self.url = url
        self.redirects = redirects
        self.method = method
        self.proxied = proxied
        self.meta: Mapping[str, Any] = meta or {}
        self.complete = complete

    @classmethod
    def of(cls, response: Any, request: Any = None, *, body: bytes | None = None) -> Answer:
        """Read a Scrapy response, or anything like it; ``body`` is the decoded body if known.

        Without ``body`` a Content-Encoding is undone here (`decoding.decoded`).
        """
        headers = plain_headers(_attribute(response, "headers"))
        if request is None:
            request = _attribute(response, "request")
        meta = _attribute(request, "meta")
        meta = meta if isinstance(meta, dict) else {}
        redirects = meta.get("redirect_urls")
        complete = True
        if body is None:
            body = _bytes(_attribute(response, "body"))
            if body and "content-encoding" in headers:
                codings = ",".join(headers["content-encoding"]).lower().split(",")
                body = decoded(body, [coding.strip() for coding in codings])
                complete = body is not None and len(body) < DECODED_LIMIT
        status = _attribute(response, "status")
        return cls(
            status if isinstance(status, int) else 0,
            headers,
            body,
            _text(_attribute(response, "url")),
            redirects=tuple(_text(url) for url in redirects[:20])
            if isinstance(redirects, (list, tuple))
            else (),
            method=_text(_attribute(request, "method")) or "GET",
            proxied=bool(meta["proxy"]) if "proxy" in meta else None,
            meta=meta,
            complete=complete,
        )

    @classmethod
    def of_scrapy(cls, response: Response, request: Request) -> Answer:
        """Read an answer in a crawl, its body decoded: as `of` does, where nothing is out of order."""
        headers, meta = response.headers, request.meta
        if (
            type(response.status) is not int
            or "redirect_urls" in meta
            or dict.__contains__(headers, b"Content-Encoding")
        ):
            return cls.of(response, request)
        proxied = bool(meta["proxy"]) if "proxy" in meta else None
        return cls(
            response.status,
            ScrapyHeaders(headers),
            response.body,
            response.url,
            method=request.method or "GET",
            proxied=proxied,
            meta=meta,
        )

    def header(self, name: str) -> str:
        """Return the first value of a header by its lower-case name, or an empty string."""
        headers = self.headers
        if isinstance(headers, ScrapyHeaders):
            return headers.first(name)
        values = headers.get(name)
        return values[0] if values else ""

    @_once
    def content_type(self) -> str:
        """Return the Content-Type as it was sent, or an empty string."""
        return self.header("content-type")

    @_once
    def cookies(self) -> dict[str, str]:
        """Return the cookies that the answer sets: name to value."""
        lines = self.headers.get("set-cookie", ())
        pairs = (line.partition(";")[0].partition("=") for line in lines)
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def requested_url(self) -> str:
        """The URL that was asked for before any redirect."""
        return self.redirects[0] if self.redirects else self.url

    @property
    def location(self) -> str:
        """Where a redirect points to; empty where the answer is none."""
        return self.header("location") if 300 <= self.status < 400 else ""

    @_once
    def host(self) -> str:
        """Return the host that answered, in lower case, without a port."""
        return host_of(self.url)

    @_once
    def is_text(self) -> bool:
        """Whether there is a body that markers can be looked for in."""
        if not self.body:
            return False
        said = _says_text(self.content_type)
        return b"\0" not in self.body[:512] if said is None else said

    @_once
    def is_data(self) -> bool:
        """Whether the body is JSON, XML or plain text rather than a page."""
        if self.content_type.lower().startswith(_DATA_TYPES):
            return True
        start = self.start
        if start.startswith((b"{", b"[")):
            return True
        return b"<" not in start or (start.startswith(b"<?xml") and b"<html" not in start)

    @_once
    def start(self) -> bytes:
        """Return the first half kilobyte of text, in lower case, without leading white space."""
        return (self.body or b"")[:512].lstrip(_BLANK).lower()

    @_once
    def is_short(self) -> bool:
        """Whether the page is short enough to be a block page, and not full of links."""
        return len(self.body or b"") <= SHORT and not self.is_rich

    @_once
    def is_rich(self) -> bool:
        """Whether the page has at least `RICH` links in the window that is looked at."""
        window = (self.body or b"")[:SHORT]
        return len(window.split(b"</a>", RICH)) > RICH

    @_once
    def text(self) -> bytes:
        """Return the window in which markers are looked for, in lower case.

        All of a short page; the head and tail of a longer one, without its styles. Only the edges of
        a page that is not thin, has a title, and an ordinary status.
        """
        body = self.body or b""
        if self.status in ORDINARY and len(body) > 2 * EDGE and self.title and not self.is_thin:
            body = body[:EDGE] + b"\n" + body[-EDGE:]
        elif len(body) > SHORT:
            body = without(body[:DEEP], b"<style", b"</style>")  # some hide behind 100 kB of it
            body = body[:HEAD] + b"\n" + body[max(HEAD, len(body) - TAIL) :]
        return body.lower()

    @_once
    def title(self) -> str:
        """Return the page's title in lower case with single spaces, at most 200 characters."""
        body = self.body or b""
        at = body.find(b"<title", 0, SHORT)
        if at < 0:
            at = body.find(b"<TITLE", 0, SHORT)
        if at < 0:
            return ""
        start = body.find(b">", at + 6, at + 600) + 1 or at + 6
        end = body.find(b"</", start, at + 600)
        if end < 0:
            end = min(start + 200, at + 600)
        title = body[start:end].decode("utf-8", "replace")
        if "&" in title:
            title = unescape(title)
        return " ".join(title.split())[:200].lower()

    @_once
    def prose(self) -> str:
        """Return what a reader sees, about the first `THIN` characters of it, in lower case.

        That is the text outside tags, scripts, styles and the title.

        Entities are resolved, white space is single, apostrophes are straight.
        """
        body = self.body or b""
        page = body if len(body) <= SHORT else self.text
        text = page[:THIN] if self.is_data else visible_text(page, THIN)
        prose = text.decode("utf-8", "replace")
        if "&" in prose:
            prose = unescape(prose)
        return " ".join(prose.split()).replace("\u2019", "'").lower()

    @property
    def is_ordinary(self) -> bool:
        """Whether only a token that proves on any page is worth looking for."""
        return self.status in ORDINARY and not self.is_thin

    @property
    def is_thin(self) -> bool:
        """Whether the page is short and has next to no visible text."""
        return self.is_short and len(self.prose) < THIN


@lru_cache(maxsize=256)
def _says_text(content_type: str) -> bool | None:
    """Return whether a Content-Type is one of texts; None where it says nothing."""
    kind = content_type.lower()
    if kind.startswith(_TEXT_TYPES) or "+xml" in kind or "+json" in kind:
        return True
    if kind and not kind.startswith(("application/octet-stream", "unknown", "*")):
        return False
    return None


def host_of(url: str) -> str:
    """Return the host of a URL in lower case, or an empty string."""
    try:
        return urlsplit(url[:_URL_LIMIT]).hostname or ""
    except ValueError:
        return ""


_BLANK = b" \t\r\n\f\v\xef\xbb\xbf"  # with the byte order mark of UTF-8


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else b""


def _attribute(owner: Any, name: str) -> Any:
    """Return an attribute, or None where it is missing or raises, as Response.meta may."""
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - a foreign object may raise anything
        return None
