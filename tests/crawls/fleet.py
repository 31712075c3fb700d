"""Several crawls at once on one store, and what the site saw of them."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.crawls.scenery import through
from tests.world.crawls import Crawler, RunningCrawl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import Visit, World
    from typing_extensions import Self


LATENCY = 0.1  # seconds each answer takes, so that visits at the same time can be seen
ENDLESS = 100_000  # pages: more than any of these crawls comes to
SPIDER = """
import scrapy

class FleetSpider(scrapy.Spider):
    name = {name!r}

    number = 0

    async def start(self):
        for _ in range(32):
            yield self.next_page()

    def next_page(self):
        self.number += 1
        if self.number <= {pages}:
            url = f"{url}{{self.number}}"
            headers = {{"X-Crawl": {name!r}}}
            return scrapy.Request(url, headers=headers, meta={meta!r}, errback=self.errback)

    def parse(self, response):
        session = response.meta["session_filter_session"]
        yield {{"url": response.url, "status": response.status, "session": session}}
        yield self.next_page()

    def errback(self, failure):
        yield {{"url": failure.request.url, "error": repr(failure.value)}}
        yield self.next_page()
"""


def at_most(seconds: float) -> float:
    """A bound that holds on an idle machine, stretched as much as this one is busier than it can."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Fleet:
    """Crawls of one site through one proxy list, each in a process and folder of its own.

    Leaving the ``with`` block ends them. Each names itself in a header of its requests.
    """

    def __init__(self, world: World, folder: Path, store: str, **settings: Any) -> None:
        self.world = world
        self._folder = folder
        ours = {"STORE": store, "PROXIES": world.proxies(), "POLICY": "random", **settings}
        self._settings = through(world, **ours)
        if "CLAIM_SECONDS" in settings:
            self._settings["EXTENSIONS"]["tests.crawls.short_claims.ShortClaims"] = 1
        self._crawlers: list[Crawler] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for crawler in self._crawlers:
            crawler.close()

    def start(
        self, name: str, pages: int, *, pin: str | None = None, **settings: Any
    ) -> RunningCrawl:
        """Start a crawl of so many pages; ``pin``: all with this session."""
        folder = self._folder / name
        folder.mkdir()
        crawler = Crawler(folder, {"ADDONS": {"scrapy_session_filter.Addon": 500}})
        self._crawlers.append(crawler)
        meta = {} if pin is None else {"session_filter_session": pin}
        url = self.world.url(f"/page/{name}-")
        spider = SPIDER.format(name=name, url=url, pages=pages, meta=meta)
        return crawler.start(spider, {**self._settings, **settings})

    def visits(self, name: str) -> list[Visit]:
        """What the site saw of one crawl."""
        return [v for v in list(self.world.site.visits) if who(v) == name]

    def exits(self, name: str, *, since: float = 0.0) -> set[str]:
        """The exits that a crawl used after a time (`time.monotonic`)."""
        return {visit.exit for visit in self.visits(name) if visit.time >= since}

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60.0) -> float:
        """Wait until something is so; returns when it was."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds} s"
            time.sleep(0.02)
        return time.monotonic()


def who(visit: Visit) -> str:
    """The crawl that a visit was of."""
    return visit.headers.get("x-crawl", "")


def collisions(visits: list[Visit], seconds: float) -> list[tuple[Visit, Visit]]:
    """Visits of two crawls through one exit at the same time; each takes so many seconds."""
    by_exit: dict[str, list[Visit]] = defaultdict(list)
    for visit in sorted(visits, key=lambda visit: visit.time):
        by_exit[visit.exit].append(visit)
    return [
        (one, other)
        for group in by_exit.values()
        for one, other in pairwise(group)
        if who(one) != who(other) and other.time - one.time < seconds
    ]


def moves(visits: list[Visit]) -> dict[str, int]:
    """How often each exit went from one crawl to another."""
    by_exit: dict[str, list[str]] = defaultdict(list)
    for visit in sorted(visits, key=lambda visit: visit.time):
        by_exit[visit.exit].append(who(visit))
    return {
        exit_: sum(one != other for one, other in pairwise(names))
        for exit_, names in by_exit.items()
    }


def assert_apart(world: World, seconds: float, most_moves: int = 2) -> None:
    """No exit was used by two crawls at once, and exits do not go to and fro."""
    visits = list(world.site.visits)
    assert not collisions(visits, seconds)
    assert not world.site.direct_visits
    assert max(moves(visits).values()) <= most_moves
