"""Products that only a browser sees, and what comes of them: the first by browser, the rest by HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import scrapy
from scrapy.utils.misc import load_object

from shop.chromium import MISSING, find_chromium, launch_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from scrapy.http import Response
    from scrapy.settings import BaseSettings

APPS = 24
_HANDLER = "scrapy_playwright.handler.ScrapyPlaywrightDownloadHandler"


class BrowserSpider(scrapy.Spider):
    """Opens pages that need JavaScript, each in the browser context of its session.

    From each it goes on by plain HTTP, as the same visitor: the site's cookies came along.
    """

    name = "browser"
    allowed_domains = ("shop.example",)

    @classmethod
    def update_settings(cls, settings: BaseSettings) -> None:
        """Use the Chromium of this machine; RuntimeError where there is none."""
        super().update_settings(settings)
        path = find_chromium()
        if path is None:
            raise RuntimeError(MISSING)
        for name, value in {
            "DOWNLOAD_HANDLERS": {"http": _HANDLER, "https": _HANDLER},
            "PLAYWRIGHT_LAUNCH_OPTIONS": launch_options(path),
            "PLAYWRIGHT_MAX_CONTEXTS": 4,
            "CONCURRENT_REQUESTS": 4,
        }.items():
            settings.set(name, value, priority="spider")

    async def start(self) -> AsyncIterator[Any]:
        """Ask for pages that are empty without JavaScript."""
        page_method = load_object(
            "scrapy_playwright.page.PageMethod"
        )  # the other spiders need none
        for number in range(1, APPS + 1):
            yield scrapy.Request(
                f"http://shop.example/app/{number}",
                meta={
                    "playwright": True,
                    "playwright_page_methods": [
                        page_method("wait_for_selector", ".product", timeout=5000)
                    ],
                },
                cb_kwargs={"number": number},
            )

    def parse(self, response: Response, number: int) -> Iterator[Any]:
        """Take the product, and go on without the browser."""
        yield {"by": "browser", "name": response.css(".product h2::text").get()}
        pin = {"session_filter_session": response.meta["session_filter_session"]}
        yield response.follow(
            f"/product/{number}", self.parse_product, meta={**pin, "session_filter_optional": True}
        )

    def parse_product(self, response: Response) -> Iterator[Any]:
        """Take the same product from its plain page."""
        yield {"by": "http", "name": response.css(".product h2::text").get()}
