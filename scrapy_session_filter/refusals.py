"""Our request errors as Scrapy wants them: an IgnoreRequest reaches the errback without a traceback."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from scrapy.exceptions import IgnoreRequest

from scrapy_session_filter.exceptions import (
    SessionFilterGiveUp,
    SessionFilterRefused,
    SessionFilterSessionGone,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy import Request

logger = logging.getLogger("scrapy_session_filter")


class IgnoredRefused(SessionFilterRefused, IgnoreRequest):
    """`SessionFilterRefused` on its way through Scrapy."""


class IgnoredGiveUp(SessionFilterGiveUp, IgnoreRequest):
    """`SessionFilterGiveUp` on its way through Scrapy."""


class IgnoredSessionGone(SessionFilterSessionGone, IgnoreRequest):
    """`SessionFilterSessionGone` on its way through Scrapy."""


def unserved(request: Request, why: str, count: Callable[[str], None]) -> IgnoredRefused:
    """Return, told and counted, the error of a request that no scheduler keeps or session serves."""
    count("unserved")
    msg = f"{request}: {why}"
    logger.warning("No session for %s", msg)
    return IgnoredRefused(msg)
