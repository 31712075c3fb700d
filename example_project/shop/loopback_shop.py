"""Starts the site and its gateway with the crawl, so that nothing else is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopback import RemoteWorld
from scrapy import signals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scrapy.crawler import Crawler
    from typing_extensions import Self


class LoopbackShop:
    """Runs the shop of `loopback` in a process of its own for as long as the crawl lasts.

    Settings: ``SHOP_WORLD`` (arguments of `loopback.World`), ``SHOP_BANS`` (which share of the
    exits gets which answer on every page), ``SHOP_LIMIT`` (requests per exit) and ``SHOP_REPORT``
    (a file for the site's own count of what happened, as JSON).
    """

    def __init__(
        self,
        crawler: Crawler,
        world: Mapping[str, Any],
        bans: Mapping[str, float],
        limit: Mapping[str, Any],
        report: str | None,
    ) -> None:
        self.crawler = crawler
        self.report = report
        self.world = RemoteWorld(**world)
        exits = self.world.call("pick_exits", share=1.0)
        for answer, share in bans.items():
            count = round(share * len(self.world.exits))
            self.world.call("ban", exits=exits[:count], answer=answer)
            exits = exits[count:]
        self.world.call("limit", **limit)
        crawler.signals.connect(self.stop, signals.engine_stopped)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Start the shop."""
        settings = crawler.settings
        return cls(
            crawler,
            settings.getdict("SHOP_WORLD"),
            settings.getdict("SHOP_BANS"),
            settings.getdict("SHOP_LIMIT"),
            settings["SHOP_REPORT"],
        )

    def stop(self) -> None:
        """Report and end it."""
        if self.report:
            seen = {"site": self.world.call("stats"), "crawl": self.crawler.stats.get_stats()}
            Path(self.report).write_text(json.dumps(seen, default=str), encoding="utf-8")
        self.world.close()
