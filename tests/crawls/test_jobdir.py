"""What is kept between runs: sessions in the store, requests in JOBDIR."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.crawls.scenery import assert_clean, by_session, cookie, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import Visit, World

    from tests.world.crawls import Crawler


def visitors(world: World) -> dict[str, tuple[str, str]]:
    """User-Agent and cookie of each exit's latest visit."""
    return {
        exit_: (visits[-1].headers["user-agent"], cookie(visits[-1]))
        for exit_, visits in by_session(world).items()
    }


@pytest.mark.parametrize("end", ["finish", "kill"])
def test_the_same_visitors_come_back(
    make_world: Callable[..., World], crawl: Crawler, end: str
) -> None:
    """After a clean end or kill -9 sessions return with the same proxy, headers and cookies."""
    world = make_world(12, proxy={"in_turn": True})
    world.site.on("/page/*", {"like": "ok", "delay": 0.03})
    settings = through(
        world, STORE="sqlite:", POLICY="round-robin", MAX_SESSIONS=4, SAVE_INTERVAL=0.2,
        CONCURRENT_REQUESTS=4,
    )  # fmt: skip
    if end == "finish":
        first = crawl(urls(world, 16), settings)
        assert_clean(world, first)
    else:
        running = crawl.start(urls(world, 2000), settings)
        while len(running.items()) < 40 and running.process.poll() is None:
            time.sleep(0.02)
        seen = len(world.site.visits)
        time.sleep(0.6)  # three saves
        assert len(world.site.visits) > seen
        running.kill()
    before = visitors(world)
    world.site.forget_visits()
    second = crawl(urls(world, 16, "/product/{}"), settings)
    assert_clean(world, second)
    assert visitors(world) == before
    assert stat(second, "sessions/restored") == 4
    assert stat(second, "sessions/created") == 0


def test_retired_and_expired_sessions_do_not_come_back(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """A blocked session is gone for good; one past MAX_AGE is dropped when it is loaded."""
    world = make_world(12, proxy={"in_turn": True})
    world.ban(world.exits[:2])
    settings = through(world, STORE="sqlite:", POLICY="round-robin", MAX_SESSIONS=4)
    first = crawl(urls(world, 16), settings)
    assert_clean(world, first)
    assert stat(first, "sessions/retired/blocked") == 2
    world.site.forget_visits()
    second = crawl(urls(world, 8), settings)
    assert stat(second, "sessions/restored") == 4
    assert not {visit.exit for visit in world.site.visits} & set(world.exits[:2])
    time.sleep(0.3)
    third = crawl(urls(world, 4), {**settings, "SESSION_FILTER_MAX_AGE": 0.2})
    assert third.exit_code == 0
    assert stat(third, "sessions/restored") == 0


def test_a_resting_session_still_rests_after_a_restart(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """A rest outlives the process."""
    world = make_world(12)
    world.site.on("*", {"like": "too-many", "headers": {"Retry-After": "600"}},
                  exits=world.exits[:1])  # fmt: skip
    settings = through(world, STORE="sqlite:", PROXIES=world.proxies(world.exits[:3]),
                       POLICY="round-robin")  # fmt: skip
    first = crawl(urls(world, 12), settings)
    assert_clean(world, first)
    assert stat(first, "sessions/rested") == 1
    world.site.forget_visits()
    second = crawl(urls(world, 12), settings)
    assert_clean(world, second)
    assert len(second.pages) == 12
    assert world.exits[0] not in by_session(world)


def test_a_job_goes_on_where_it_was_stopped(world: World, crawl: Crawler) -> None:
    """Stopped by Ctrl-C in the middle of retries and redirects, a job delivers every page once."""
    world.site.on("/page/*", {"like": "ok", "delay": 0.05})

    def sometimes(visit: Visit) -> str | None:
        return "forbidden" if hash(visit.path + visit.exit) % 3 == 0 else None

    world.site.on("/page/*", sometimes)
    pages = urls(world, 40) + [world.url(f"/redirect?to=/page/r{n}") for n in range(20)]
    settings = through(world, STORE="sqlite:", JOBDIR="job", CONCURRENT_REQUESTS=4)
    running = crawl.start(pages, settings)
    while len(running.items()) < 15 and running.process.poll() is None:
        time.sleep(0.02)
    running.interrupt()
    first = running.wait()
    assert first.reason == "shutdown"
    assert (crawl.folder / "job" / "session_filter.sqlite").exists() or list(
        (crawl.folder / "job").glob("*.sqlite")
    )
    second = crawl(pages, settings)
    assert_clean(world, second)
    assert Counter(i["url"] for i in first.items + second.items) == Counter(pages)
    assert not [item for item in first.items + second.items if "error" in item]


@pytest.mark.direct
@pytest.mark.parametrize("before", [True, False])
def test_a_job_begun_with_another_queue_goes_on(world: World, crawl: Crawler, before: bool) -> None:
    """Disk queues written without our queue are taken over by it; ours are read when disabled."""
    world.site.on("*", {"like": "ok", "delay": 0.1})
    pages = [world.direct_url(f"/page/{n}") for n in range(40)]
    off = {"SESSION_FILTER_ENABLED": False, "SESSION_FILTER_PROXY": world.gateway}
    job = {"JOBDIR": "job", "CONCURRENT_REQUESTS": 4}
    off, on = {**off, **job}, through(world, **job)
    plain = {**off, "ADDONS": {}}
    running = crawl.start(pages, plain if before else on)
    while len(running.items()) < 5 and running.process.poll() is None:
        time.sleep(0.02)
    running.interrupt()
    first = running.wait()
    second = crawl(pages, on if before else off)
    assert second.exit_code == 0, second.log[-2000:]
    assert Counter(i["url"] for i in first.items + second.items) == Counter(pages)


def test_a_pin_of_an_earlier_run_is_found_again(world: World, crawl: Crawler) -> None:
    """A pinned request that waited in JOBDIR finds its session after the restart."""
    world.site.on("/page/slow*", {"like": "ok", "delay": 0.2})
    spider = """
    import scrapy

    class Pinned(scrapy.Spider):
        name = "pinned"

        async def start(self):
            yield scrapy.Request("http://shop.example/page/first", self.first)

        def first(self, response):
            session = response.meta["session_filter_session"]
            yield {"first": session}
            for n in range(30):
                yield scrapy.Request(f"http://shop.example/page/slow{n}", self.then,
                                     meta={"session_filter_session": session})

        def then(self, response):
            yield {"url": response.url, "session": response.meta["session_filter_session"]}
    """
    settings = through(world, STORE="sqlite:", JOBDIR="job", CONCURRENT_REQUESTS=2)
    running = crawl.start(spider, settings)
    while len(running.items()) < 4 and running.process.poll() is None:
        time.sleep(0.02)
    running.interrupt()
    first = running.wait()
    second = crawl(spider.replace("yield scrapy.Request(\"http://shop.example/page/first\", self.first)",
                                  "return\n            yield"), settings)  # fmt: skip
    assert_clean(world, second)
    session = first.items[0]["first"]
    pages = first.items[1:] + second.items
    assert len(pages) == 30
    assert {item["session"] for item in pages} == {session}
