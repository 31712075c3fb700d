"""An extension for crawls under test: counts the browser contexts when the spider has closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy import signals

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from typing_extensions import Self


class BrowserWatch:
    """Writes stats ``watch/contexts`` (open at the end) and ``watch/most_contexts`` (at any time)."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        self.most = 0
        crawler.signals.connect(self.response_received, signals.response_received)
        crawler.signals.connect(self.engine_stopped, signals.engine_stopped)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    def contexts(self) -> list[int]:
        """How many each handler has."""
        handlers: Any = self.crawler.engine.downloader.handlers
        return [
            len(handler.context_wrappers)
            for handler in handlers._handlers.values()
            if hasattr(handler, "context_wrappers")
        ]

    def response_received(self) -> None:
        self.most = max([self.most, *self.contexts()])

    def engine_stopped(self) -> None:
        assert self.crawler.stats is not None
        self.crawler.stats.set_value("watch/contexts", sum(self.contexts()))
        self.crawler.stats.set_value("watch/most_contexts", self.most)
