"""Every product of the shop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import scrapy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scrapy.http import Response

LISTS = 16


class ShopSpider(scrapy.Spider):
    """Reads the list pages and follows each product; a page counts if it shows what it should."""

    name = "shop"
    allowed_domains = ("shop.example",)

    async def start(self) -> AsyncIterator[Any]:
        """Ask for the list pages."""
        for number in range(1, LISTS + 1):
            yield scrapy.Request(f"http://shop.example/list/{number}")

    def parse(self, response: Response) -> Iterator[Any]:
        """Take the links of a list page."""
        products = response.css("a.product::attr(href)").getall()
        if products:
            yield {"url": response.url}
        yield from response.follow_all(products, callback=self.parse_product)

    def parse_product(self, response: Response) -> Iterator[Any]:
        """Take a product."""
        for product in response.css(".product"):
            yield {
                "url": response.url,
                "name": product.css("h2::text").get(),
                "price": product.css(".price::text").get(),
            }
