"""Which pool a request belongs to."""

from __future__ import annotations

import inspect
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tldextract
from scrapy import Request
from scrapy.utils.httpobj import urlparse_cached

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.loading import accepts, load

if TYPE_CHECKING:
    from collections.abc import Callable

SETTING = "SESSION_FILTER_SITE"

ALL = "all"
"""The key of the one pool of ``SESSION_FILTER_SITE = "all"``."""

MAX_LENGTH = 255
"""Characters a key may have: those of a host name."""

# The suffix list that comes with the package: the network is never asked for a newer one.
_extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


def host_key(request: Request) -> str:
    """Return the request's host name, or its scheme where it has none."""
    parts = urlparse_cached(request)
    return parts.hostname or parts.scheme


def domain_key(request: Request) -> str:
    """Return the registrable domain (``example.co.uk`` of ``www.example.co.uk``), else the host."""
    url = request.url
    end = url.find("/", url.find("://") + 3)
    if end < 0:  # no path, but perhaps a query, which is no part of the key
        parts = urlparse_cached(request)
        return _domain(f"{parts.scheme}://{parts.netloc}")
    return _domain(url[:end])


def all_key(request: Request) -> str:  # noqa: ARG001 - of one form with the others
    """Return the same key for every request."""
    return ALL


@lru_cache(maxsize=10_000)
def _domain(start: str) -> str:
    """Return the domain of a URL up to its path; a site has but a few of those."""
    parsed = urlsplit(start)
    host = parsed.hostname or parsed.scheme
    parts = _extract(host)
    return f"{parts.domain}.{parts.suffix}" if parts.domain and parts.suffix else host


@lru_cache(maxsize=10_000)
def is_public_suffix(host: str) -> bool:
    """Return whether anybody may register names under a host: ``com``, ``co.uk``."""
    parts = _extract(host)
    return bool(parts.suffix) and not parts.domain


_BUILT_IN = {"domain": domain_key, "host": host_key, "all": all_key}


def site_key_function(value: object) -> Callable[[Request], str]:
    """Return the function that SESSION_FILTER_SITE means.

    ``value`` is ``"domain"``, ``"host"``, ``"all"``, or a callable that takes a request and returns
    a key, or its import path. Raises `ConfigurationError`, and so does a function of the user's
    when it returns no text of 1 to 255 characters.
    """
    if isinstance(value, str) and value in _BUILT_IN:
        if value == "domain":
            _domain("http://example.com")  # reads the suffix list now, not amid the crawl
        return _BUILT_IN[value]
    expected = "'domain', 'host', 'all' or the import path of a function that takes a request"
    function: Any = (
        load(value, setting=SETTING, expected=expected) if isinstance(value, str) else value
    )
    name = value if isinstance(value, str) else type(value).__name__
    if not callable(function) or not accepts(function, Request("http://example.com")):
        raise ConfigurationError(SETTING, name, expected)
    if inspect.iscoroutinefunction(function):
        raise ConfigurationError(SETTING, name, f"{expected}, and not an async one")

    @wraps(function)
    def checked(request: Request) -> str:
        key = function(request)
        if not isinstance(key, str) or not 0 < len(key) <= MAX_LENGTH:
            shown = (
                f"a text of {len(key)} characters" if isinstance(key, str) else type(key).__name__
            )
            wanted = f"it to return a text of 1 to {MAX_LENGTH} characters, not {shown}"
            raise ConfigurationError(SETTING, name, wanted)
        return key

    return checked
