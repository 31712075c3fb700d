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


def goes_without(request: Request, count: Callable[[str], None] = lambda why: None) -> bool:
    """Return whether a request goes its own way; ``count`` hears why, as the name of a stat."""
    if request.meta.get(OPT_OUT) is False:
        count("opted_out")
        return True
    if request.meta.get("proxy"):
        count("own_proxy")
        return True
    return request.url[:5].lower() == "data:"


def needs_session(
    request: Request, of_engine: Callable[[Request], str | None], count: Callable[[str], None]
) -> bool:
    """Return whether a request is to get a session; False: it goes its own way.

    ``of_engine`` says what its download engine has against one, ``count`` hears what is not usual.
    Raises `IgnoredRefused` where the request cannot carry a session: it must not go out without.
    """
    if goes_without(request, count):
        return False
    if (why := _refusal(request, of_engine)) is not None:
        count("refused")
        logger.error("%s", why)
        raise IgnoredRefused(why)
    return True


def _refusal(request: Request, of_engine: Callable[[Request], str | None]) -> str | None:
    meta = request.meta
    if not request.url[:8].lower().startswith(_HTTP):
        what = f"{urlparse_cached(request).scheme}: requests ignore proxies"
    elif "proxy" in meta:
        what = 'its meta "proxy" is empty, so it would go out directly'
    elif meta.get("cookiejar") is not None:
        what = f'it brings its own "cookiejar"; to stay with a visitor pass meta "{PIN}"'
    elif meta.get("playwright_context") is not None:
        what = f'it brings its own "playwright_context"; to stay with a visitor pass meta "{PIN}"'
    elif (why := of_engine(request)) is not None:
        what = why
    else:
        return None
    return f'{request} was refused: {what}. Without a session, pass meta "{OPT_OUT}": False'
