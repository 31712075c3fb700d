"""Crawlee's contender: run by ``python fetch_crawlee.py TASK.json`` where Crawlee is installed.

Its HttpCrawler with its session pool as they come: 403 and 429 retire a session, each session keeps
its proxy. As many retries as the others have.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from crawlee import ConcurrencySettings
from crawlee.crawlers import HttpCrawler, HttpCrawlingContext
from crawlee.proxy_configuration import ProxyConfiguration


async def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
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
    with Path(task["record"]).open("w", buffering=1, encoding="utf-8") as record:

        @crawler.router.default_handler
        async def handle(context: HttpCrawlingContext) -> None:
            number = context.request.url.rpartition("/")[2]
            record.write(f"{number} {time.monotonic()}\n")

        await crawler.run([f"{task['url']}/page/{number}" for number in range(task["pages"])])


if __name__ == "__main__":
    asyncio.run(main())
