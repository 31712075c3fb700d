"""Adaptive, when a whole site fails for a while: nobody pays, little is sent, and it is soon over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.crawls.fleet import at_most
from tests.crawls.scenery import stat, through

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler, RunningCrawl

AT_ONCE = 16
AHEAD = 100
"""Pages of each site that the crawl knows of at a time."""
BACK = 30.0
"""Seconds within which a site that is up again is crawled at full speed, of which half is asked for:
others use this machine, too."""


class Outages:
    """Ends of the outages of a world's sites, by host; in one, everybody gets the same answer."""

    def __init__(self, world: World, answer: str) -> None:
        self.until: dict[str, float] = {}
        world.site.on("/page/*", {"like": "ok", "delay": 0.3})
        world.site.on(
            "/page/*",
            lambda visit: answer if time.monotonic() < self.until.get(visit.host, 0.0) else None,
        )


def speed(world: World, host: str, since: float, until: float) -> float:
    """Pages a second that a site gave in this time."""
    pages = [v for v in world.site.visits if v.host == host and since <= v.time < until]
    return len([v for v in pages if not v.block and v.status == 200]) / (until - since)


def crawl_through_outage(
    world: World, crawl: Crawler, answer: str, seconds: float, hosts: list[str]
) -> None:
    """Crawl sites without end; all but the last fail for so long; look at what it cost them."""
    outages = Outages(world, answer)
    running = crawl.start(
        f"""
        import scrapy

        class Endless(scrapy.Spider):
            name = "endless"

            async def start(self):
                for n in range({AHEAD}):
                    for host in {hosts!r}:
                        yield scrapy.Request(f"http://{{host}}/page/{{n}}")

            def parse(self, response):
                head, _, number = response.url.rpartition("/")
                yield response.follow(f"{{head}}/{{int(number) + {AHEAD}}}")
        """,
        through(
            world,
            POLICY="adaptive",
            PROXIES=world.proxies(),
            CONCURRENT_REQUESTS=AT_ONCE,
            RETRY_TIMES=50,
            LOG_LEVEL="INFO",
        ),
    )
    _wait(
        running, lambda: min(speed_now(world, host) for host in hosts) > 0 and _warm(world, hosts)
    )
    began = time.monotonic()
    before = {host: speed(world, host, began - 3.0, began) for host in hosts}
    for host in hosts[:-1] or hosts:
        outages.until[host] = began + seconds
    while time.monotonic() < began + seconds:
        assert running.process.poll() is None, running.log()[-3000:]
        time.sleep(0.1)
    down = hosts[:-1] or hosts
    for host in down:
        sent = [
            v for v in world.site.visits if v.host == host and began <= v.time < began + seconds
        ]
        assert len(sent) <= AT_ONCE + 40, (host, len(sent))
    _wait(
        running,
        lambda: all(speed_now(world, host) >= 0.5 * before[host] for host in down),
        within=at_most(BACK),
    )
    running.interrupt()
    result = running.wait()
    assert stat(result, "sessions/retired") == 0
    assert stat(result, "gave_up") == 0
    good = len(hosts) * len(world.exits)
    assert stat(result, "sessions/live") + stat(result, "sessions/resting") == good
    assert stat(result, "sessions/resting") <= max(1, 0.01 * good)  # one may just be resting
    assert not world.site.direct_visits


def speed_now(world: World, host: str) -> float:
    now = time.monotonic()
    return speed(world, host, now - 2.0, now)


def _warm(world: World, hosts: list[str]) -> bool:
    """Whether every exit has served every site; some are used once only, as others are quicker."""
    served = {(visit.host, visit.exit) for visit in world.site.visits}
    return len(served) == len(hosts) * len(world.exits)


def _wait(running: RunningCrawl, condition: Callable[[], Any], within: float = 120.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert running.process.poll() is None, running.log()[-3000:]
        assert time.monotonic() < deadline, running.log()[-3000:]
        time.sleep(0.1)


@pytest.mark.parametrize("answer", ["unavailable", "forbidden"])
def test_an_outage_costs_no_session_and_is_soon_over(
    make_world: Callable[..., World], crawl: Crawler, answer: str
) -> None:
    """After 6 s of nothing but 503 or 403 all sessions are there and the crawl is at speed again."""
    crawl_through_outage(make_world(12), crawl, answer, 6.0, ["shop.example"])


@pytest.mark.soak
@pytest.mark.parametrize("answer", ["unavailable", "forbidden"])
def test_ninety_seconds_of_outage(
    make_world: Callable[..., World], crawl: Crawler, answer: str
) -> None:
    """Two of three sites are down for 90 s: the same, for each of them."""
    hosts = ["one.example", "two.example", "three.example"]
    crawl_through_outage(make_world(40), crawl, answer, 90.0, hosts)
