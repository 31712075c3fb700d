"""An extension for crawls under test: writes down what came of them, for the test to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrapy import signals

if TYPE_CHECKING:
    from scrapy import Spider
    from scrapy.crawler import Crawler
    from typing_extensions import Self


class RecordCrawl:
    """Appends items to ``items.jsonl`` as they come, writes ``end.json`` when all has ended."""

    def __init__(self, crawler: Crawler) -> None:
        self.crawler = crawler
        self.reason = ""
        self.items = Path("items.jsonl").open("a", encoding="utf-8", buffering=1)  # noqa: SIM115
        crawler.signals.connect(self.item_scraped, signals.item_scraped)
        crawler.signals.connect(self.spider_closed, signals.spider_closed)
        crawler.signals.connect(self.engine_stopped, signals.engine_stopped)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    def item_scraped(self, item: Any) -> None:
        self.items.write(json.dumps(item, default=str) + "\n")

    def spider_closed(self, spider: Spider, reason: str) -> None:
        self.reason = reason

    def engine_stopped(self) -> None:
        self.items.close()
        assert self.crawler.stats is not None
        end = {"reason": self.reason, "stats": self.crawler.stats.get_stats()}
        Path("end.json").write_text(json.dumps(end, default=str), encoding="utf-8")
