"""Requests tied to a session, requests made with copied meta, and what a session may be used for."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.crawls.scenery import assert_clean, by_session, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler

FOLLOW = """
import scrapy

class Follow(scrapy.Spider):
    name = "follow"

    async def start(self):
        for n in range(6):
            yield scrapy.Request(f"http://shop.example/page/{n}-0", cb_kwargs={"n": n, "step": 0})

    def parse(self, response, n, step):
        session = response.meta["session_filter_session"]
        yield {"n": n, "step": step, "session": session}
        if step < 3:
            yield scrapy.Request(
                f"http://shop.example/page/{n}-{step + 1}",
                meta={"session_filter_session": session},
                cb_kwargs={"n": n, "step": step + 1},
            )
"""


def test_a_follow_up_keeps_its_visitor(make_world: Callable[..., World], crawl: Crawler) -> None:
    """A pinned follow-up goes through the same exit with the same headers and cookies."""
    world = make_world(40, proxy={"in_turn": True})
    result = crawl(FOLLOW, through(world, POLICY="round-robin", MAX_SESSIONS=30))
    assert_clean(world, result)
    assert len(result.items) == 24
    sessions, exits, agents = defaultdict(set), defaultdict(set), defaultdict(set)
    for item in result.items:
        sessions[item["n"]].add(item["session"])
    for visit in world.site.visits:
        number = visit.path.rpartition("/")[2][0]
        exits[number].add(visit.exit)
        agents[number].add(visit.headers["user-agent"])
    for seen in (sessions, exits, agents):
        assert all(len(values) == 1 for values in seen.values())
    assert len({next(iter(values)) for values in exits.values()}) == 6
    assert stat(result, "picks/pinned") == 18


COPIED = """
import scrapy

class Copied(scrapy.Spider):
    name = "copied"
    handle_httpstatus_list = [404]

    async def start(self):
        yield scrapy.Request("http://shop.example/page/first", meta={"mine": 1})

    def parse(self, response):
        yield {"page": "first", "session": response.meta["session_filter_session"]}
        own = {"User-Agent": "own/1.0", "Accept-Language": "de"}
        for n in range(3):
            yield scrapy.Request(f"http://shop.example/page/a{n}", self.last, meta=response.meta)
            yield scrapy.Request(f"http://shop.example/page/b{n}", self.last,
                                 meta=response.meta.copy(), headers=own)
            yield response.request.replace(url=f"http://shop.example/page/c{n}",
                                           callback=self.last)
        proxy = self.settings["OWN_PROXY"]
        yield scrapy.Request("http://shop.example/page/d0", self.last,
                             meta={**response.meta, "proxy": proxy})
        yield scrapy.Request(self.settings["DIRECT"], self.last,
                             meta={**response.meta, "session_filter": False})

    def last(self, response):
        yield {"page": response.url.rpartition("/")[2], "mine": response.meta["mine"],
               "session": response.meta.get("session_filter_session"),
               "dont_retry": response.meta.get("dont_retry"),
               "timeout": response.meta.get("download_timeout")}
"""


@pytest.mark.direct
def test_copied_meta_does_not_carry_a_session_over(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """Requests made with a response's meta, or from its request, are pages like any other."""
    world = make_world(40, proxy={"in_turn": True})
    own = world.proxies(world.exits[-1:])[0]
    settings = through(
        world, POLICY="round-robin", MAX_SESSIONS=30, OWN_PROXY=own,
        DIRECT=world.direct_url("/page/e0"), FIRST_TIMEOUT=7,
    )  # fmt: skip
    result = crawl(COPIED, settings)
    assert result.exit_code == 0
    pages = {item["page"]: item for item in result.items}
    assert len(pages) == 1 + 9 + 2
    sessions = [pages[f"{kind}{n}"]["session"] for kind in "abc" for n in range(3)]
    assert len({*sessions, pages["first"]["session"]}) == 10
    assert {item["mine"] for item in result.items if "mine" in item} == {1}
    visits = {visit.path.rpartition("/")[2]: visit for visit in world.site.visits}
    assert len({visits[f"{kind}{n}"].exit for kind in "abc" for n in range(3)}) == 9
    agents = {visits[f"{kind}{n}"].headers["user-agent"] for kind in "ac" for n in range(3)}
    assert len(agents) > 1
    assert not any("Scrapy" in agent for agent in agents)
    for n in range(3):
        assert visits[f"b{n}"].headers["user-agent"] == "own/1.0"
        assert visits[f"b{n}"].headers["accept-language"] == "de"
        assert "cookie" not in visits[f"a{n}"].headers
    assert [visit.path for visit in by_session(world)[world.exits[-1]]] == ["/page/d0"]
    assert visits["e0"].direct
    assert pages["e0"]["session"] is None
    assert pages["e0"]["timeout"] == 15  # the project's, not the one of an unproven session
    assert "Scrapy" in visits["e0"].headers["user-agent"]


def test_a_delivered_block_leaves_nothing_in_copied_meta(world: World, crawl: Crawler) -> None:
    """What GIVE_UP "deliver" sets on a request does not reach requests made with its meta."""
    world.site.on("/page/first", "forbidden")
    world.site.on("/page/second", "forbidden", times=1)
    spider = """
    import scrapy

    class Delivered(scrapy.Spider):
        name = "delivered"

        async def start(self):
            yield scrapy.Request("http://shop.example/page/first")

        def parse(self, response):
            yield {"status": response.status}
            if response.url.endswith("first"):
                yield scrapy.Request("http://shop.example/page/second", meta=response.meta)
    """
    result = crawl(spider, through(world, RETRY_TIMES=1, GIVE_UP="deliver"))
    assert_clean(world, result)
    assert [item["status"] for item in result.items] == [403, 200]


PINS = """
import scrapy

class Pins(scrapy.Spider):
    name = "pins"

    async def start(self):
        yield scrapy.Request("http://shop.example/page/first")

    def parse(self, response):
        id = self.id = response.meta["session_filter_session"]
        pin = {"session_filter_session": id}
        yield {"first": id}
        yield scrapy.Request("http://shop.example/rest", self.rested, meta=pin, priority=5)

    def rested(self, response):
        yield {"rested": response.meta["session_filter_session"]}
        pin = {"session_filter_session": self.id}
        yield scrapy.Request("http://shop.example/block", meta=pin, errback=self.blocked)

    def blocked(self, failure):
        yield {"blocked": type(failure.value).__name__}
        pin = {"session_filter_session": self.id}
        unknown = {"session_filter_session": "aaaaaaaaaaaa"}
        optional = {**pin, "session_filter_optional": True}
        request = scrapy.Request
        yield request("http://shop.example/page/gone", meta=pin, errback=self.gone)
        yield request("http://shop.example/page/unknown", meta=unknown, errback=self.gone)
        yield request("http://shop.example/page/optional", self.optional, meta=optional)

    def gone(self, failure):
        from scrapy_session_filter import SessionFilterSessionGone
        assert isinstance(failure.value, SessionFilterSessionGone)
        yield {"gone": failure.value.session_id}

    def optional(self, response):
        yield {"optional": response.meta["session_filter_session"]}
"""


def test_pins_of_sessions_that_rest_or_are_gone(world: World, crawl: Crawler) -> None:
    """A pin waits for a resting session; a retired or unknown one is an error, unless optional."""
    world.site.on("/rest", {"like": "too-many", "headers": {"Retry-After": "1"}}, times=1)
    world.site.on("/rest", "ok")
    world.site.on("/rest", {"like": "too-many", "headers": {"Retry-After": "1"}}, times=1)
    world.site.on("/block", "forbidden")
    result = crawl(PINS, through(world, WAIT_TIMEOUT=0.3))
    assert_clean(world, result)
    first = result.items[0]["first"]
    assert {"rested": first} in result.items
    assert {"blocked": "IgnoredGiveUp"} in result.items
    assert {"gone": first} in result.items
    assert {"gone": "aaaaaaaaaaaa"} in result.items
    assert [item["optional"] != first for item in result.items if "optional" in item] == [True]
    asked = Counter(visit.path for visit in world.site.visits)
    assert asked["/rest"] == 2
    assert asked["/block"] == 1  # a pin's block is not retried elsewhere
    assert asked["/page/gone"] == asked["/page/unknown"] == 0
    assert asked["/page/optional"] == 1
    assert stat(result, "sessions_gone") == 2


def test_a_pin_does_not_wait_for_ever(world: World, crawl: Crawler) -> None:
    """A pin of a session that rests longer than EXHAUSTED_TIMEOUT ends as one that is gone."""
    world.site.on("/rest", {"like": "too-many", "headers": {"Retry-After": "600"}})
    world.site.on("/page/*", {"like": "ok", "delay": 0.3})
    spider = """
    import scrapy

    class Long(scrapy.Spider):
        name = "long"

        async def start(self):
            yield scrapy.Request("http://shop.example/page/first")
            for n in range(60):
                yield scrapy.Request(f"http://shop.example/page/{n}", self.other, priority=-5)

        def other(self, response):
            pass

        def parse(self, response):
            pin = {"session_filter_session": response.meta["session_filter_session"]}
            yield scrapy.Request("http://shop.example/rest", meta=pin, errback=self.gone)

        def gone(self, failure):
            yield {"error": type(failure.value).__name__}
    """
    settings = through(
        world, WAIT_TIMEOUT=0.3, EXHAUSTED_TIMEOUT=1.5, CONCURRENT_REQUESTS=4, MAX_USES=1000
    )
    result = crawl(spider, settings)
    assert_clean(world, result)
    assert result.items == [{"error": "IgnoredSessionGone"}]
    assert len(world.site.visits) == 62


def test_max_uses_is_exact_under_concurrency(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """No session serves more than MAX_USES requests, in-flight ones included."""
    world = make_world(60, proxy={"in_turn": True})
    world.site.on("*", {"like": "ok", "delay": 0.05})
    pages = urls(world, 40)
    result = crawl(pages, through(world, POLICY="until-blocked", MAX_USES=3))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    uses = [len(visits) for visits in by_session(world).values()]
    assert max(uses) == 3
    assert sum(uses) == 40
    assert stat(result, "sessions/retired/uses") == 13
    assert stat(result, "sessions/created") == 14


def test_concurrency_and_delay_are_kept_per_session(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """CONCURRENCY requests of a session at once, DELAY seconds between two, as the site sees it."""
    world = make_world(10, proxy={"in_turn": True})
    world.site.on("*", {"like": "ok", "delay": 0.1})
    pages = urls(world, 24)
    settings = through(world, POLICY="round-robin", MAX_SESSIONS=4, CONCURRENCY=2, DELAY=0.2)
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    sessions = by_session(world)
    assert len(sessions) == 4
    for visits in sessions.values():
        times = sorted(visit.time for visit in visits)
        gaps = [later - earlier for earlier, later in pairwise(times)]
        # requests leave that far apart; how long each takes to arrive varies a little
        assert sum(gaps) >= 0.2 * len(gaps) - 0.05
        assert min(gaps) > 0.02


def test_concurrency_of_a_session_is_exact(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """No session has more than CONCURRENCY requests in flight."""
    world = make_world(10, proxy={"in_turn": True})
    delay = 0.15
    world.site.on("*", {"like": "ok", "delay": delay})
    pages = urls(world, 24)
    result = crawl(pages, through(world, POLICY="round-robin", MAX_SESSIONS=3, CONCURRENCY=2))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    for visits in by_session(world).values():
        times = sorted(visit.time for visit in visits)
        for n, time in enumerate(times):
            assert len([other for other in times[:n] if time - other < delay]) <= 1


def test_the_sites_own_politeness_keeps_working(world: World, crawl: Crawler) -> None:
    """DOWNLOAD_DELAY holds over all sessions of a site."""
    polite = {"DOWNLOAD_DELAY": 0.2, "RANDOMIZE_DOWNLOAD_DELAY": False, "POLICY": "round-robin"}
    result = crawl(urls(world, 6), through(world, **polite))
    assert_clean(world, result)
    times = [visit.time for visit in world.site.visits]
    assert times[-1] - times[0] >= 0.2 * 5 - 0.1
    assert stat(result, "sessions/created") == 6


def test_old_and_idle_sessions_leave(make_world: Callable[..., World], crawl: Crawler) -> None:
    """Past MAX_AGE or MAX_IDLE a session serves no request any more."""
    world = make_world(60, proxy={"in_turn": True})
    world.site.on("*", {"like": "ok", "delay": 0.1})
    pages = urls(world, 30)
    result = crawl(pages, through(world, POLICY="until-blocked", MAX_AGE=1, CONCURRENT_REQUESTS=1))
    assert_clean(world, result)
    assert len(result.pages) == 30
    for visits in by_session(world).values():
        assert visits[-1].time - visits[0].time <= 1.2
    assert stat(result, "sessions/retired/age") == len(by_session(world)) - 1 >= 2
    world.site.forget_visits()
    settings = {"DOWNLOAD_DELAY": 0.6, "RANDOMIZE_DOWNLOAD_DELAY": False, "CONCURRENT_REQUESTS": 1}
    result = crawl(pages[:4], through(world, POLICY="until-blocked", MAX_IDLE=0.3, **settings))
    assert_clean(world, result)
    assert stat(result, "sessions/retired/idle") >= 1


def test_pools_belong_to_sites(world: World, crawl: Crawler) -> None:
    """By default each registrable domain has its own sessions; meta or SITE say otherwise."""
    requests = [
        world.url("/page/1", "www.one.com"),
        world.url("/page/2", "shop.one.com"),
        world.url("/page/3", "two.com"),
        {"url": world.url("/page/4", "three.com"), "meta": {"session_filter_site": "mine"}},
        {"url": world.url("/page/5", "four.com"), "meta": {"session_filter_site": "mine"}},
    ]
    one = {"POLICY": "until-blocked", "CONCURRENT_REQUESTS": 1}

    def sessions(**settings: object) -> list[str]:
        result = crawl(requests, through(world, **one, **settings))
        assert_clean(world, result)
        found = {url[-1]: item["session"] for url, item in result.pages.items()}
        return [found[number] for number in "12345"]

    first, second, third, fourth, fifth = sessions()
    assert first == second
    assert fourth == fifth
    assert len({first, third, fourth}) == 3
    assert len(set(sessions(SITE="host"))) == 4
    assert len(set(sessions(SITE="all"))) == 2
