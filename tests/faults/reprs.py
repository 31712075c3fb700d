"""An extension for crawls under test: writes down how every object of ours shows itself."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

from scrapy import signals

if TYPE_CHECKING:
    from scrapy.crawler import Crawler
    from typing_extensions import Self


class Reprs:
    """Appends to ``reprs.txt``, at the tenth item and when the spider closes."""

    def __init__(self, crawler: Crawler) -> None:
        self.items = 0
        crawler.signals.connect(self.item_scraped, signals.item_scraped)
        crawler.signals.connect(self.write, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    def item_scraped(self) -> None:
        self.items += 1
        if self.items == 10:
            self.write()

    def write(self) -> None:
        ours = [
            thing
            for thing in gc.get_objects()
            if str(type(thing).__module__).startswith("scrapy_session_filter")
        ]
        with Path("reprs.txt").open("a", encoding="utf-8") as file:
            file.writelines(f"{thing!r}\n{thing!s}\n" for thing in ours)
