"""Our request errors as Scrapy wants them: an IgnoreRequest reaches the errback without a traceback."""

from __future__ import annotations

from scrapy.exceptions import IgnoreRequest

from scrapy_session_filter.exceptions import (
    SessionFilterGiveUp,
    SessionFilterRefused,
    SessionFilterSessionGone,
)


class IgnoredRefused(SessionFilterRefused, IgnoreRequest):
    """`SessionFilterRefused` on its way through Scrapy."""


class IgnoredGiveUp(SessionFilterGiveUp, IgnoreRequest):
    """`SessionFilterGiveUp` on its way through Scrapy."""


class IgnoredSessionGone(SessionFilterSessionGone, IgnoreRequest):
    """`SessionFilterSessionGone` on its way through Scrapy."""
