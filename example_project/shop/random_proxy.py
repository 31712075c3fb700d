"""The usual recipe without sessions, for comparison: another proxy for every request."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from typing_extensions import Self


class RandomProxyMiddleware:
    """Sends each request, retries included, through a random exit of the gateway."""

    def __init__(self, gateway: str) -> None:
        self.gateway = gateway
        self.random = random.Random(1)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Use the gateway that the sessions use."""
        return cls(crawler.settings["SESSION_FILTER_PROXY"])

    def process_request(self, request: Request) -> None:
        """Draw a proxy."""
        session = f"{self.random.getrandbits(48):012x}"
        request.meta["proxy"] = self.gateway.replace("{session}", session)
        request.headers.pop("Proxy-Authorization", None)
