"""Crawlee's contender: run by ``python fetch_crawlee.py TASK.json`` where Crawlee is installed.

Its HttpCrawler with its session pool as they come: 403 and 429 retire a session, each session keeps
its proxy. As many retries as the others have.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

# not installed where this project is checked
from crawlee import ConcurrencySettings  # type: ignore[import-not-found]
from crawlee.crawlers import HttpCrawler  # type: ignore[import-not-found]
from crawlee.proxy_configuration import ProxyConfiguration  # type: ignore[import-not-found]


async def crawl(task: dict[str, Any], record: TextIO) -> None:
    at_once, retries = task["concurrency"], task["retries"]
    crawler = HttpCrawler(
        proxy_configuration=ProxyConfiguration(proxy_urls=task["proxies"]),
        concurrency_settings=ConcurrencySettings(
            min_concurrency=at_once, desired_concurrency=at_once, max_concurrency=at_once
        ),
        max_request_retries=retries,
        max_session_rotations=retries,
        configure_logging=False,
    )

    async def handle(context: Any) -> None:
        number = context.request.url.rpartition("/")[2]
        record.write(f"{number} {time.monotonic()}\n")

    crawler.router.default_handler(handle)
    await crawler.run([f"{task['url']}/page/{number}" for number in range(task["pages"])])


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with Path(task["record"]).open("w", buffering=1, encoding="utf-8") as record:
        asyncio.run(crawl(task, record))


if __name__ == "__main__":
    main()
