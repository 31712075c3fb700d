"""Every product of the shop, by as many processes as there are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scrapy_redis.spiders import RedisSpider  # type: ignore[import-untyped]

from shop.spiders.shop import ShopSpider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class SharedShopSpider(ShopSpider, RedisSpider):  # type: ignore[misc]
    """Takes the list pages from the Redis list ``shared_shop:start_urls``; ends when all is done."""

    name = "shared_shop"
    redis_batch_size = 2  # so that every process gets some
    max_idle_time = 3

    async def start(self) -> AsyncIterator[Any]:
        """Take the first list pages; scrapy-redis itself does so only when the spider is idle."""
        self.spider_idle_start_time = int(time.time())  # else it counts from the import
        for request in self.next_requests():
            yield request
