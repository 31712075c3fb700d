"""Adaptive, at sites where nothing works any more: they end by themselves, in nobody's way."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.crawls.beside import crawl_beside
from tests.crawls.scenery import PLAIN_QUEUE, assert_clean, resting, stat, through, urls

if TYPE_CHECKING:
    from loopback import Visit, World

    from tests.world.crawls import Crawler

JOB = {"POLICY": "adaptive", "JOBDIR": "job", "SAVE_INTERVAL": 0.3, "WAIT_TIMEOUT": 0.5}
OVER = pytest.mark.parametrize("over", ["forbidden", resting(600)], ids=["403", "429"])
"""What a site says when it is over."""


class Closing:
    """A host that gives so many pages, and then the same answer to everybody."""

    def __init__(self, world: World, host: str, pages: int, over: Any) -> None:
        self._left, self._over = pages, over
        world.site.on("/page/*", self._answer, host=host)

    def _answer(self, visit: Visit) -> Any:
        self._left -= 1
        return None if self._left >= 0 else self._over


@OVER
@pytest.mark.parametrize("queue", [{}, PLAIN_QUEUE], ids=["ours", "plain"])
def test_a_site_where_nothing_works_any_more_ends_the_crawl(
    world: World, crawl: Crawler, queue: dict[str, str], over: Any
) -> None:
    """No page in EXHAUSTED_TIMEOUT: closed with that reason; the next run fetches what was left."""
    world.site.on("*", {"like": "ok", "delay": 0.05})
    Closing(world, "shop.example", 30, over)
    pages = urls(world, 80)
    settings = {**JOB, "PROXIES": world.proxies(world.exits[:6]), **queue}
    first = crawl(pages, through(world, EXHAUSTED_TIMEOUT=5, **settings))
    assert_clean(world, first)
    assert first.reason == "session_filter_exhausted"
    assert len(first.items) == 30
    assert stat(first, "sites_given_up") == 1
    assert stat(first, "gave_up") == 0  # tries are few: no page uses its attempts up
    world.site.on("*", "ok")
    second = crawl(pages, through(world, **settings))
    assert_clean(world, second)
    assert Counter(item["url"] for item in first.items + second.items) == Counter(pages)


@OVER
def test_a_site_that_is_given_up_waits_for_the_others(
    world: World, crawl: Crawler, over: Any
) -> None:
    """While another site gives pages the spider goes on; what was left of the first is kept."""
    world.site.on("*", {"like": "ok", "delay": 0.3})
    Closing(world, "over.example", 5, over)
    kept = urls(world, 20, host="over.example")
    pages = urls(world, 100)
    settings = {**JOB, "PROXIES": world.proxies(world.exits[:4]), "CONCURRENT_REQUESTS": 4}
    first = crawl([*kept, *pages], through(world, EXHAUSTED_TIMEOUT=5, **settings))
    assert_clean(world, first)
    assert first.reason == "session_filter_exhausted"
    assert set(pages) <= set(first.pages)
    assert len(set(first.pages) & set(kept)) == 5
    assert "over.example: no page in 5 s; the site is given up" in first.log
    assert stat(first, "gave_up") == 0
    world.site.on("*", "ok")
    second = crawl([*kept, *pages], through(world, **settings))
    assert_clean(world, second)
    assert set(second.pages) == set(kept) - set(first.pages)


@OVER
def test_a_site_without_sessions_does_not_hold_up_another(
    world: World, crawl: Crawler, over: Any
) -> None:
    """Beside a site where nothing works, a second keeps at least 90 % of its speed."""
    world.site.on("*", {"like": "ok", "delay": 0.12})
    world.site.on("*", over, host="over.example")
    settings = through(
        world,
        POLICY="adaptive",
        PROXIES=world.proxies(world.exits[:4]),
        CONCURRENT_REQUESTS_PER_DOMAIN=8,
        LOG_LEVEL="INFO",
    )
    ratios, result = crawl_beside(world, crawl, "over.example", settings, tries=5)
    assert max(ratios) > 0.9, ratios
    assert stat(result, "verdicts/BLOCKED") + stat(result, "verdicts/THROTTLED") >= 4
    assert stat(result, "gave_up") == 0
    assert result.stats["watch/leases"] == 0
