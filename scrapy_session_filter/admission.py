"""Which requests go without a session, and which must not go out at all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scrapy.utils.httpobj import urlparse_cached

from scrapy_session_filter.refusals import IgnoredRefused
from scrapy_session_filter.tracking import OPT_OUT, PIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy import Request

logger = logging.getLogger("scrapy_session_filter")

_HTTP = ("http://", "https://")
_OWN = ("cookiejar", "playwright_context")  #: meta with which a request brings its own visitor
#: meta of requests that go without a session, or may not have one
_UNUSUAL = frozenset((OPT_OUT, "proxy", *_OWN))


def goes_without(request: Request, count: Callable[[str], None] = lambda why: None) -> bool:
    """Return whether a request goes its own way; ``count`` hears why, as the name of a stat."""
    meta = request.meta
    if meta.get(OPT_OUT) is False:
        count("opted_out")
        return True
    if meta.get("proxy"):
        count("own_proxy")
        return True
    url = request.url
    return not url.startswith(_HTTP) and url[:5].lower() == "data:"


def needs_session(
    request: Request, of_engine: Callable[[Request], str | None], count: Callable[[str], None]
) -> bool:
    """Return whether a request is to get a session; False: it goes its own way.

    ``of_engine`` says what its download engine has against one, ``count`` hears what is not usual.
    Raises `IgnoredRefused` where the request cannot carry a session: it must not go out without.
    """
    if _UNUSUAL.isdisjoint(request.meta) and request.url.startswith(_HTTP):
        why = of_engine(request)  # most requests: only the engine may have something against it
    elif goes_without(request, count):
        return False
    else:
        why = _refusal(request, of_engine)
    if why is not None:
        why = f'{request} was refused: {why}. Without a session, pass meta "{OPT_OUT}": False'
        count("refused")
        logger.error("%s", why)
        raise IgnoredRefused(why)
    return True


def _refusal(request: Request, of_engine: Callable[[Request], str | None]) -> str | None:
    meta = request.meta
    if not request.url[:8].lower().startswith(_HTTP):
        return f"{urlparse_cached(request).scheme}: requests ignore proxies"
    if "proxy" in meta:
        return 'its meta "proxy" is empty, so it would go out directly'
    for own in _OWN:
        if meta.get(own) is not None:
            return f'it brings its own "{own}"; to stay with a visitor pass meta "{PIN}"'
    return of_engine(request)
