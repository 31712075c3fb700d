"""An extension for crawls under test: looks at what is still held when the spider closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy import signals
from scrapy.downloadermiddlewares.cookies import CookiesMiddleware

from scrapy_session_filter import SessionFilterExtension

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.crawler import Crawler
    from typing_extensions import Self


class Watch:
    """Writes stats ``watch/...``; comes before the session filter's own clean-up (order < 500)."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        crawler.signals.connect(self.spider_closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    def spider_closed(self, spider: Spider) -> None:
        extension = self.crawler.get_extension(SessionFilterExtension)
        assert extension is not None
        assert self.crawler.stats is not None
        cookies = self.crawler.get_downloader_middleware(CookiesMiddleware)
        jars = set() if cookies is None else {key for key in cookies.jars if key is not None}
        alive = {session_id for pool in extension.pools for session_id in pool.sessions}
        for name, value in (
            ("leases", len(extension.leases)),
            ("in_flight", sum(pool.in_flight for pool in extension.pools)),
            (
                "session_in_flight",
                sum(s.in_flight for pool in extension.pools for s in pool.sessions.values()),
            ),
            ("waiting", extension.turns.waiting),
            ("verdicts", len(extension.verdicts)),
            ("jars", len(jars)),
            ("orphan_jars", len(jars - alive)),
        ):
            self.crawler.stats.set_value(f"watch/{name}", value)
