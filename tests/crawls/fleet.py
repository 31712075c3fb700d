"""Several crawls at once on one store, and what the site saw of them."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.crawls.scenery import through
from tests.world.crawls import Crawl, Crawler, RunningCrawl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import Visit, World
    from typing_extensions import Self


class Fleet:
    """Crawls of one site through one proxy list, each in a process and folder of its own.

    Leaving the ``with`` block ends them. Each names itself in a header of its requests.
    """

    def __init__(self, world: World, folder: Path, store: str, **settings: Any) -> None:
        self.world = world
        self._folder = folder
        self._settings = through(world, STORE=store, PROXIES=world.proxies(), **settings)
        if "CLAIM_SECONDS" in settings:
            self._settings["EXTENSIONS"]["tests.crawls.short_claims.ShortClaims"] = 1
        self._crawlers: list[Crawler] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for crawler in self._crawlers:
            crawler.close()

    def start(self, name: str, pages: int, **settings: Any) -> RunningCrawl:
        """Start a crawl of so many pages."""
        folder = self._folder / name
        folder.mkdir()
        crawler = Crawler(folder, {"ADDONS": {"scrapy_session_filter.Addon": 500}})
        self._crawlers.append(crawler)
        requests = [
            {"url": self.world.url(f"/page/{name}-{n}"), "headers": {"X-Crawl": name}}
            for n in range(pages)
        ]
        return crawler.start(requests, {**self._settings, **settings})

    def visits(self, name: str) -> list[Visit]:
        """What the site saw of one crawl."""
        return [v for v in list(self.world.site.visits) if who(v) == name]

    def exits(self, name: str, *, since: float = 0.0) -> set[str]:
        """The exits that a crawl used after a time (`time.monotonic`)."""
        return {visit.exit for visit in self.visits(name) if visit.time >= since}

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> float:
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


def finished(*crawls: RunningCrawl) -> list[Crawl]:
    """Wait for crawls to end by themselves."""
    results = [crawl.wait() for crawl in crawls]
    assert all(result.reason == "finished" for result in results), [r.log[-2000:] for r in results]
    return results
