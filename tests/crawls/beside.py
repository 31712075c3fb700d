"""A site's speed alone, and beside one whose pages do not come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.crawls.scenery import urls

if TYPE_CHECKING:
    from loopback import World

    from tests.world.crawls import Crawl, Crawler


def crawl_beside(
    world: World, crawl: Crawler, host: str, settings: dict[str, Any], tries: int
) -> tuple[list[float], Crawl]:
    """Crawl 150 pages alone and as many beside 200 of ``host``, until that costs less than a tenth.

    Returns the speeds beside it relative to those alone, and the last crawl. A busy machine only
    makes it worse, so it is tried up to ``tries`` times.
    """
    spider = f"""
    import time

    import scrapy

    class TwoSites(scrapy.Spider):
        name = "two"

        async def start(self):
            for request in self.measured({urls(world, 150, host="alone.example")!r}, self.first):
                yield request

        def measured(self, urls, callback):
            self.left = len(urls)
            self.began = time.monotonic()
            for url in urls:
                yield scrapy.Request(url, callback)

        def first(self, response):
            self.left -= 1
            if not self.left:
                yield {{"alone": time.monotonic() - self.began}}
                for url in {urls(world, 200, host=host)!r}:
                    yield scrapy.Request(url)
                yield scrapy.Request("http://{host}/last", priority=-1)
                yield from self.measured({urls(world, 150, host="beside.example")!r}, self.second)

        def second(self, response):
            self.left -= 1
            if not self.left:
                yield {{"beside": time.monotonic() - self.began}}
                raise scrapy.exceptions.CloseSpider("enough")
    """
    ratios: list[float] = []
    while True:
        result = crawl(spider, settings)
        assert result.reason == "enough", result.log[-3000:]
        times = {name: value for item in result.items for name, value in item.items()}
        ratios.append(times["alone"] / times["beside"])
        if len(ratios) == tries or max(ratios) > 0.9:
            return ratios, result
