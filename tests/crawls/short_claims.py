"""An extension for crawls under test: claims in the store hold for ``CLAIM_SECONDS`` only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_session_filter.stores.base import SessionStore

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from typing_extensions import Self


class ShortClaims:
    """Comes before the session filter (order < 500), which opens the store."""

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        SessionStore.claim_seconds = crawler.settings.getfloat("CLAIM_SECONDS")
        return cls()
