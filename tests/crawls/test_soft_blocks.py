"""Blocks that no marker tells: one page for every URL, through one session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from loopback.answers import page

from tests.crawls.scenery import assert_clean, by_session, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import Visit, World

    from tests.world.crawls import Crawler

ASLEEP = page("Shop", "<p>Our shop is asleep.</p>", name="asleep")


def six(world: World, **settings: Any) -> dict[str, Any]:
    """Settings of a crawl through six proxies, one request of each at a time."""
    proxies = world.proxies(world.exits[:6])
    return through(world, PROXIES=proxies, CONCURRENCY=1, CONCURRENT_REQUESTS=6, **settings)


@pytest.mark.parametrize("policy", ["classic", "adaptive"])
def test_found_within_three_pages(
    make_world: Callable[..., World], crawl: Crawler, policy: str
) -> None:
    """The third such page is a block: the session pays, the page is fetched elsewhere."""
    world = make_world(10)
    bad, visits = world.exits[2], world.site.visits
    world.site.latency = 0.05  # seconds; a site that answers at once makes adaptive go slow
    world.site.on("*", lambda _: ASLEEP if len(visits) > 40 else None, exits=[bad])
    pages = urls(world, 240)
    result = crawl(pages, six(world, POLICY=policy))
    assert_clean(world, result)
    assert [result.pages[url]["title"] for url in pages].count("Shop") == 2
    assert stat(result, "verdicts/BLOCKED") >= 1
    assert stat(result, "gave_up") == 0
    if policy == "classic":
        assert [visit.answer for visit in by_session(world)[bad]].count("asleep") == 3
        assert stat(result, "sessions/retired") == 1


def numbered(visit: Visit) -> Any:
    number = visit.path.rpartition("/")[2]
    return page("Shop", f"<p>Oak table, model {number}, {int(number) % 7} left</p>")


def results(visit: Visit) -> Any:
    number = int(visit.path.rpartition("/")[2])
    return page("Shop", "<p>Nothing found.</p>") if number % 5 > 1 else None


def test_sites_that_are_like_that(make_world: Callable[..., World], crawl: Crawler) -> None:
    """One page for everybody, pages that differ in a number, empty results: no block."""
    world = make_world(10)
    answers: dict[str, Any] = {
        "same.example": ASLEEP,
        "numbered.example": numbered,
        "results.example": results,
    }
    for host, answer in answers.items():
        world.site.on("*", answer, host=host)
    pages = [url for host in answers for url in urls(world, 80, host=host)]
    result = crawl(pages, six(world))
    assert_clean(world, result)
    assert len(result.pages) == len(pages)
    assert stat(result, "verdicts/BLOCKED") == stat(result, "sessions/retired") == 0


@pytest.mark.parametrize("policy", ["classic", "adaptive"])
def test_pages_that_are_no_blocks(
    make_world: Callable[..., World], crawl: Crawler, policy: str
) -> None:
    """Every second link dead, a login page with a captcha widget 1,000 times: no session lost."""
    world = make_world(10)
    world.site.on("/page/*", lambda visit: "404" if int(visit.path[-1]) % 2 else None)
    pages = urls(world, 60) + urls(world, 1000, "/login?n={}")
    settings = through(world, POLICY=policy, HTTPERROR_ALLOW_ALL=True, LOG_LEVEL="INFO")
    result = crawl(pages, settings, timeout=240)
    assert_clean(world, result)
    assert len(result.pages) == len(world.site.visits) == len(pages)
    assert stat(result, "verdicts/OK") == len(pages)
    assert stat(result, "sessions/retired") == stat(result, "sessions/rested") == 0
