"""The Scrapy contenders' spider: run by ``python fetch_scrapy.py TASK.json``, in any environment.

``TASK.json`` holds ``url``, ``pages``, ``proxies``, ``settings`` and ``record``: a line with the
page's number and the time is written there for each page. It imports nothing of this project, so
that it also runs where only a peer is installed.
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import scrapy
from scrapy.crawler import CrawlerProcess


class Pages(scrapy.Spider):
    """Fetches numbered pages."""

    name = "pages"

    def __init__(self, url: str, pages: int, record: TextIO, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start_urls = [f"{url}/page/{number}" for number in range(pages)]
        self.record = record

    def parse(self, response: Any) -> None:
        self.record.write(f"{response.url.rpartition('/')[2]} {time.monotonic()}\n")


class RandomProxy:
    """The usual recipe: a random proxy for each request."""

    def __init__(self, proxies: list[str]) -> None:
        self.proxies = proxies

    @classmethod
    def from_crawler(cls, crawler: Any) -> "RandomProxy":
        return cls(crawler.settings.getlist("RANDOM_PROXIES"))

    def process_request(self, request: Any, spider: Any = None) -> None:
        request.meta["proxy"] = random.choice(self.proxies)


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    process = CrawlerProcess(task["settings"])
    with Path(task["record"]).open("w", buffering=1, encoding="utf-8") as record:
        process.crawl(Pages, url=task["url"], pages=task["pages"], record=record)
        process.start()


if __name__ == "__main__":
    main()
