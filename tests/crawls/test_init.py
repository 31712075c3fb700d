"""session_filter_init: each session is prepared once before its first use, and anew when logged out."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from scrapy_session_filter.policies import POLICIES
from tests.crawls.scenery import assert_clean, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import Visit, World

    from tests.world.crawls import Crawl, Crawler

LOGIN = """
import asyncio
import json

import scrapy

class Members(scrapy.Spider):
    name = "members"

    def __init__(self, pages="[]", **kwargs):
        super().__init__(**kwargs)
        self.pages = json.loads(pages)

    async def start(self):
        for page in self.pages:
            fields = {"url": page} if isinstance(page, str) else page
            yield scrapy.Request(**fields, callback=self.parse, errback=self.failed)

    async def session_filter_init(self, session, fetch):
        form = await fetch("http://shop.example/enter")
        self.logger.info("INIT %s renewal=%s", session.id, session.renewal)
        request = scrapy.FormRequest(form.urljoin("/welcome"), formdata={"user": "me"})
        welcome = await fetch(request)
        return b"Welcome" in welcome.body

    def session_filter_logged_out(self, response):
        return b"Please sign in" in response.body

    def parse(self, response):
        yield {"url": response.url, "session": response.meta["session_filter_session"],
               "title": response.css("title::text").get()}

    def failed(self, failure):
        yield {"failed": failure.request.url, "error": type(failure.value).__name__}
"""


class Club:
    """A site that shows pages only to visitors that went through /enter and /welcome."""

    def __init__(self, world: World, *, delay: float = 0.1) -> None:
        self.world = world
        self.members: set[str] = set()
        self.expelled: set[str] = set()
        world.site.on("/page/*", self._page)
        world.site.on("/enter", {"like": "ok", "delay": delay})
        world.site.on("/welcome", self._welcome)

    def expel_at(self, path: str) -> None:
        """Let all members sign in again from the first visit to a page on."""

        def expel(visit: Visit) -> None:
            if not self.expelled:
                self.expelled |= self.members
                self.members.clear()

        self.world.site.on(path, expel)

    def _welcome(self, visit: Visit) -> dict[str, Any]:
        card = f"card{len(self.members | self.expelled)}"
        self.members.add(card)
        headers = {"Set-Cookie": f"member={card}", "Content-Type": "text/html"}
        return {"body": "<title>Welcome</title>", "headers": headers}

    def _page(self, visit: Visit) -> dict[str, Any] | str:
        if card_of(visit) in self.members:
            return {"like": "ok", "delay": 0.05}
        headers = {"Content-Type": "text/html"}
        return {"body": "<title>Please sign in</title>Please sign in", "headers": headers}

    def visits_by_session(self) -> dict[str, list[str]]:
        """What each session asked for, by the proxy's account, in order."""
        asked: dict[str, list[str]] = defaultdict(list)
        for passage in self.world.proxy.passages:
            assert passage.session is not None
            asked[passage.session].append(passage.target.partition(".example")[2])
        return asked


def card_of(visit: Visit) -> str:
    """The card that a visit showed."""
    cookies = visit.headers.get("cookie", "").split("; ")
    return next((c.partition("=")[2] for c in cookies if c.startswith("member=")), "")


def run(crawl: Crawler, pages: list[Any], settings: dict[str, Any], spider: str = LOGIN) -> Crawl:
    """Crawl pages with the spider that logs in."""
    return crawl(spider, settings, args={"pages": json.dumps(pages)})


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_hundred_requests_at_once_run_one_init_per_session(
    make_world: Callable[..., World], crawl: Crawler, policy: str
) -> None:
    """100 requests at once on an empty pool: one init per session, none twice, before any page."""
    world = make_world(40, proxy={"in_turn": True})
    club = Club(world)
    pages = urls(world, 100)
    settings = through(
        world, POLICY=policy, CONCURRENT_REQUESTS=100, CONCURRENT_REQUESTS_PER_DOMAIN=100,
        MAX_SESSIONS=12,
    )  # fmt: skip
    result = run(crawl, pages, settings)
    assert_clean(world, result)
    assert Counter(item["url"] for item in result.items) == Counter(pages)
    sessions = club.visits_by_session()
    for asked in sessions.values():
        assert asked[:2] == ["/enter", "/welcome"]
        assert all(path.startswith("/page/") for path in asked[2:])
    inits = stat(result, "inits/started")
    if policy in ("random", "round-robin", "least-used"):
        assert inits == 12
    elif policy == "until-blocked":
        assert inits == 1
    # one that was still under way when the last page came was broken off
    assert len(sessions) <= inits >= len(club.members) >= stat(result, "inits/ok")
    assert stat(result, "inits/requests") <= 2 * inits
    assert stat(result, "requests") == stat(result, "verdicts/OK") == 100
    assert stat(result, "logged_out") == stat(result, "inits/failed") == 0
    assert result.stats["watch/session_in_flight"] == 0


def test_a_failing_init_closes_the_spider(world: World, crawl: Crawler) -> None:
    """After INIT_ATTEMPTS failures in a row the spider closes; with JOBDIR no request is lost."""
    club = Club(world)
    world.site.on("/welcome", {"like": "ok"})  # says nothing of "Welcome"
    pages = urls(world, 12)
    settings = through(world, INIT_ATTEMPTS=3, JOBDIR="job", STORE="sqlite:")
    result = run(crawl, pages, settings)
    assert_clean(world, result)
    assert result.reason == "session_filter_init_failed"
    assert result.items == []
    assert stat(result, "inits/started") == stat(result, "inits/failed") == 3
    assert stat(result, "inits/failed/BLOCKED") == 3
    assert stat(result, "sessions/retired") == 3
    assert "3 inits in a row failed, at last with BLOCKED (weak, init-failed)" in result.log
    Club(world)
    result = run(crawl, [], settings)
    assert_clean(world, result)
    assert {item["url"] for item in result.items} == set(pages)
    assert club.members == set()


@pytest.mark.parametrize("policy", ["classic", "adaptive"])
def test_banned_sessions_pay_for_their_init(
    make_world: Callable[..., World], crawl: Crawler, policy: str
) -> None:
    """A session whose init is blocked goes, and the pages go through others; it has served none."""
    world = make_world(40, proxy={"in_turn": True})
    Club(world)
    world.ban(world.exits[:10], "captcha")
    pages = urls(world, 30)
    result = run(crawl, pages, through(world, POLICY=policy))
    assert_clean(world, result)
    assert {item["url"] for item in result.items} == set(pages)
    banned = [visit for visit in world.site.visits if visit.exit in world.exits[:10]]
    assert Counter(visit.path for visit in banned) == {"/enter": 10}
    assert stat(result, "inits/failed") == stat(result, "inits/failed/BLOCKED") == 10
    assert stat(result, "sessions/retired/blocked") == 10
    assert stat(result, "verdicts/BLOCKED") == stat(result, "retries") == 0


def test_a_dead_proxy_pays_for_an_init(world: World, crawl: Crawler) -> None:
    """A proxy that fails during an init is at fault as a proxy; the next init uses another."""
    Club(world)
    proxies = world.proxies(world.exits[:6])
    world.kill(world.exits[:5])  # of the first that are prepared side by side some are dead
    pages = urls(world, 12)
    result = run(crawl, pages, through(world, PROXIES=proxies, POLICY="random"))
    assert_clean(world, result)
    assert {item["url"] for item in result.items} == set(pages)
    assert stat(result, "inits/failed/PROXY_ERROR") >= 1
    assert {visit.exit for visit in world.site.visits} == {world.exits[5]}


def test_other_sites_and_sessions_go_on_during_an_init(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """While one site's init takes its time, another site's pages pass."""
    world = make_world(40, proxy={"in_turn": True})
    world.site.on("/enter", {"like": "ok", "delay": 2.5}, host="shop.example")
    spider = LOGIN.replace(
        'form = await fetch("http://shop.example/enter")',
        'if session.site == "other.example":\n            return None\n'
        '        return await fetch("http://shop.example/enter") is not None',
    )
    mine, others = urls(world, 20), urls(world, 60, host="other.example")
    result = run(crawl, [*mine, *others], through(world, CONCURRENT_REQUESTS=8), spider)
    assert_clean(world, result)
    assert {item["url"] for item in result.items} == {*mine, *others}
    first_of_mine = min(n for n, item in enumerate(result.items) if "shop" in item["url"])
    assert first_of_mine >= 40


def test_ready_sessions_serve_while_others_are_prepared(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """One slow init holds up no page: the sessions that are ready take them."""
    world = make_world(40, proxy={"in_turn": True})
    Club(world, delay=0.0)
    world.site.on("/enter", {"like": "ok", "delay": 3.0}, exits=world.exits[1:2])
    pages = urls(world, 80)
    settings = through(world, POLICY="round-robin", MAX_SESSIONS=4, CONCURRENT_REQUESTS=4)
    result = run(crawl, pages, settings)
    assert_clean(world, result)
    assert {item["url"] for item in result.items} == set(pages)
    slow = [visit for visit in world.site.visits if visit.exit == world.exits[1]]
    pages_before = [
        visit
        for visit in world.site.visits
        if "/page/" in visit.path and visit.time < slow[0].time + 3
    ]
    assert len(pages_before) >= 40


@pytest.mark.parametrize("policy", ["until-blocked", "random"])
def test_a_logged_out_session_is_renewed_once(
    make_world: Callable[..., World], crawl: Crawler, policy: str
) -> None:
    """Sessions found logged out are prepared anew, once each, and their pages retried in them."""
    world = make_world(10, proxy={"in_turn": True})
    club = Club(world)
    club.expel_at("/page/40")
    pages = [{"url": url, "priority": -n} for n, url in enumerate(urls(world, 80))]
    result = run(crawl, pages, through(world, POLICY=policy, MAX_SESSIONS=3))
    assert_clean(world, result)
    assert Counter(item["url"] for item in result.items) == Counter(p["url"] for p in pages)
    assert all(item["title"] == "A page" for item in result.items)
    sessions = club.visits_by_session()
    assert len(sessions) == (1 if policy == "until-blocked" else 3)
    entered = [asked.count("/enter") for asked in sessions.values()]
    assert entered == [asked.count("/welcome") for asked in sessions.values()]
    # one that came after the expulsion, or is not used after it, signs in once only
    assert set(entered) <= {1, 2}
    renewed = entered.count(2)
    assert 0 < renewed <= len(club.expelled)
    # one that was still signing in when all were expelled signs in again as a new one
    assert 0 < result.log.count("renewal=True") <= renewed
    assert stat(result, "inits/started") == len(sessions) + renewed
    # what is in flight when one is found out, and what the others take until they are
    assert 0 < stat(result, "logged_out") <= 16 * renewed
    assert stat(result, "sessions/retired") == stat(result, "retries") == 0
    retried = [path for asked in sessions.values() for path in asked]
    assert max(Counter(path for path in retried if "page" in path).values()) == 2


def test_a_page_that_is_always_logged_out_is_a_block(world: World, crawl: Crawler) -> None:
    """A page that finds its session logged out again after its renewal counts as blocked."""
    Club(world)
    world.site.on("/page/1", {"body": "Please sign in", "headers": {"Content-Type": "text/html"}})
    pages = urls(world, 4)
    result = run(crawl, pages, through(world, RETRY_TIMES=2))
    assert_clean(world, result)
    assert {item["url"] for item in result.items if "url" in item} == set(pages) - {pages[1]}
    failed = [item for item in result.items if "failed" in item]
    assert failed == [{"failed": pages[1], "error": "IgnoredGiveUp"}]
    assert stat(result, "logged_out") == 4
    assert stat(result, "blocked/unnamed/logged-out") == 3


def test_a_kill_keeps_what_is_prepared(make_world: Callable[..., World], crawl: Crawler) -> None:
    """After kill -9 the sessions come back prepared; the next run runs no init for them."""
    world = make_world(10, proxy={"in_turn": True})
    club = Club(world)
    settings = through(world, POLICY="until-blocked", STORE="sqlite:", SAVE_INTERVAL=0.1)
    args = {"pages": json.dumps(urls(world, 400))}
    running = crawl.start(LOGIN, settings, args=args)
    deadline = time.monotonic() + 40
    while len(running.items()) < 40 and time.monotonic() < deadline:
        time.sleep(0.05)
    running.kill()
    assert len(club.members) == 1
    world.site.forget_visits()
    result = run(crawl, urls(world, 10), settings)
    assert_clean(world, result)
    assert len(result.items) == 10
    assert {visit.path.partition("/page/")[0] for visit in world.site.visits} == {""}
    assert {card_of(visit) for visit in world.site.visits} == club.members
    assert stat(result, "inits/started") == 0
    assert stat(result, "sessions/restored") == 1


def test_a_session_killed_in_its_init_is_prepared_again(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """A session that was saved before its init had ended is prepared before it serves."""
    world = make_world(10, proxy={"in_turn": True})
    Club(world)
    world.site.on("/welcome", "hang", times=1)
    settings = through(world, POLICY="until-blocked", STORE="sqlite:", SAVE_INTERVAL=0.1)
    running = crawl.start(LOGIN, settings, args={"pages": json.dumps(urls(world, 4))})
    deadline = time.monotonic() + 40
    while "INIT" not in running.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.6)
    running.kill()
    world.site.forget_visits()
    result = run(crawl, urls(world, 4), settings)
    assert_clean(world, result)
    assert len(result.items) == 4
    assert stat(result, "sessions/restored") == stat(result, "inits/ok") == 1
    assert [visit.path for visit in world.site.visits][:2] == ["/enter", "/welcome"]


@pytest.mark.parametrize("where", ["hangs in fetch", "sleeps"])
def test_inits_end_with_the_spider(world: World, crawl: Crawler, where: str) -> None:
    """Ctrl-C during an init closes at once; its requests are kept by JOBDIR for the next run."""
    Club(world)
    spider = LOGIN
    if where == "sleeps":
        spider = LOGIN.replace("welcome = await", "await asyncio.sleep(300); welcome = await")
    else:
        world.site.on("/welcome", "hang", times=16)
    settings = through(world, JOBDIR="job", WAIT_TIMEOUT=30)
    pages = urls(world, 20)
    running = crawl.start(spider, settings, args={"pages": json.dumps(pages)})
    deadline = time.monotonic() + 40
    while "INIT" not in running.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    pressed = time.monotonic()
    running.interrupt()
    first = running.wait(30)
    assert time.monotonic() - pressed < 10
    assert first.reason == "shutdown"
    assert first.items == []
    assert first.stats["watch/in_flight"] == 0
    assert "Traceback" not in first.log
    Club(world)
    result = run(crawl, [], settings)
    assert_clean(world, result)
    assert {item["url"] for item in result.items} == set(pages)


FUNCTIONS = """
async def prepare(session, fetch):
    response = await fetch("http://shop.example/redirect?to=/welcome&status=302")
    return response.status == 200 and len(session.id) == 12

def logged_out(response):
    return b"Please sign in" in response.body
"""


def test_functions_named_in_the_settings(world: World, crawl: Crawler) -> None:
    """INIT and LOGGED_OUT name functions; what an init fetches is redirected, and asks no robots.txt."""
    (crawl.folder / "members.py").write_text(FUNCTIONS)
    Club(world)
    named = {"INIT": "members.prepare", "LOGGED_OUT": "members.logged_out"}
    rules = "User-agent: *\nDisallow: /redirect\nDisallow: /page/3\n"
    world.site.on("/robots.txt", {"body": rules, "headers": {"Content-Type": "text/plain"}})
    # one at a time: of requests that wait for one robots.txt Scrapy 2.19 lets all but the first pass
    obey = {"ROBOTSTXT_OBEY": True, "HTTPCACHE_ENABLED": True, "CONCURRENT_REQUESTS": 1}
    settings = through(world, **named, **obey)
    pages = urls(world, 6)
    for _ in range(2):
        result = crawl(pages, settings)
        assert_clean(world, result)
        assert set(result.pages) == set(pages) - {pages[3]}
        assert {page["title"] for page in result.pages.values()} == {"A page"}
        assert stat(result, "inits/ok") >= 1
        assert stat(result, "inits/failed") == 0
        world.site.on("/page/*", "forbidden")  # from here on they come out of the cache


def test_a_broken_hook_is_said_once(world: World, crawl: Crawler) -> None:
    """A hook that raises fails its init; the error is logged once, with its traceback."""
    Club(world)
    spider = LOGIN.replace("return b", "raise KeyError('mistake')\n        return b")
    result = run(crawl, urls(world, 3), through(world, INIT_ATTEMPTS=3), spider)
    assert result.reason == "session_filter_init_failed"
    assert result.log.count("session_filter_init raised KeyError (said once)") == 1
    assert stat(result, "hook_errors") == stat(result, "inits/failed") == 3
    assert result.stats["watch/in_flight"] == 0


def test_a_check_that_is_cancelled_leaves_no_lease(world: World, crawl: Crawler) -> None:
    """Whatever ends the check of an answer ends its lease as well."""
    Club(world)
    spider = LOGIN.replace(
        "    def session_filter_logged_out", "    async def session_filter_logged_out"
    )
    spider = spider.replace(
        'return b"Please sign in" in response.body', "raise asyncio.CancelledError"
    )
    result = run(crawl, urls(world, 3), through(world), spider)
    assert [item["error"] for item in result.items] == ["CancelledError"] * 3
    assert result.stats["watch/leases"] == result.stats["watch/in_flight"] == 0


CAREFUL = """
import scrapy
from scrapy_session_filter import SessionFilterInitError

class Careful(scrapy.Spider):
    name = "careful"
    start_urls = ["http://shop.example/page/1"]

    async def session_filter_init(self, session, fetch):
        try:
            await fetch("http://shop.example/closed")
        except SessionFilterInitError as error:
            self.logger.info("REFUSED %s %s", error.response.status, error.verdict["reason"])
        opted = scrapy.Request(self.settings["DIRECT"], meta={"session_filter": False})
        assert (await fetch(opted)).status == 200
        own = scrapy.Request("http://shop.example/page/x", meta={"cookiejar": 1})
        try:
            await fetch(own)
        except Exception as error:
            self.logger.info("STOPPED %s", type(error).__name__)
        # made with the meta of an answer: still this session, once
        first = await fetch("http://shop.example/enter")
        assert (await fetch(first.follow("/welcome", meta=first.meta))).status == 200

    def parse(self, response):
        yield {"url": response.url, "title": response.css("title::text").get()}
"""


@pytest.mark.direct
def test_a_hook_may_catch_and_go_without(world: World, crawl: Crawler) -> None:
    """What fetch raises may be caught; a request may go without a session, or not at all."""
    Club(world)
    world.site.on("/closed", "forbidden")
    settings = through(world, DIRECT=world.direct_url("/size/100"), POLICY="until-blocked")
    result = crawl(CAREFUL, settings)
    assert result.exit_code == 0
    assert [item["title"] for item in result.items] == ["A page"]
    assert "REFUSED 403 status-403" in result.log
    assert "STOPPED IgnoredRefused" in result.log
    assert [visit.path for visit in world.site.direct_visits] == ["/size/100"]
    assert stat(result, "inits/ok") == 1
    assert stat(result, "sessions/retired") == 0
    assert len({passage.session for passage in world.proxy.passages}) == 1


def test_dry_run_never_holds_back(world: World, crawl: Crawler) -> None:
    """In DRY_RUN an init that fails is counted, and its session serves all the same."""
    Club(world)
    world.site.on("/enter", "forbidden")
    result = run(crawl, urls(world, 6), through(world, DRY_RUN=True, POLICY="until-blocked"))
    assert_clean(world, result)
    assert len(result.items) == 6
    assert stat(result, "inits/failed") == 1
    assert stat(result, "logged_out") == 6
    assert stat(result, "sessions/retired") == stat(result, "retries") == 0


def test_a_pin_waits_for_the_renewal_of_its_session(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """Pinned pages of a session that is logged out wait for its renewal, and get their pages."""
    world = make_world(10, proxy={"in_turn": True})
    club = Club(world)
    club.expel_at("/page/5")
    spider = LOGIN.replace(
        "    def parse(self, response):",
        """    def parse(self, response):
        if response.url.endswith("/first"):
            pin = {"session_filter_session": response.meta["session_filter_session"]}
            for n in range(20):
                yield scrapy.Request(f"http://shop.example/page/{n}", self.parse, meta=dict(pin),
                                     errback=self.failed, priority=-n)""",
    )
    result = run(crawl, urls(world, 1, "/page/first"), through(world, WAIT_TIMEOUT=0.3), spider)
    assert_clean(world, result)
    assert len(result.items) == 21
    assert not [item for item in result.items if "failed" in item], result.log
    assert len({item["session"] for item in result.items}) == 1
    assert {item["title"] for item in result.items} == {"A page"}
    assert stat(result, "inits/ok") == 2
    assert result.log.count("renewal=True") == 1


def test_a_check_without_a_hook_is_refused(world: World, crawl: Crawler) -> None:
    """session_filter_logged_out alone stops the crawl at its start, as does a hook of wrong form."""
    alone = LOGIN.replace("session_filter_init", "some_other_name")
    result = run(crawl, urls(world, 1), through(world), alone)
    assert result.exit_code != 0
    assert "session_filter_init beside it" in result.log
    result = run(crawl, urls(world, 1), through(world, INIT="json.dumps"), alone)
    assert result.exit_code != 0
    assert "SESSION_FILTER_INIT = 'json.dumps': expected" in result.log
    assert not world.site.visits


PINNED = LOGIN.replace(
    "    def parse(self, response):",
    """    def parse(self, response):
        if response.url.endswith("/first"):
            pin = {"session_filter_session": response.meta["session_filter_session"]}
            yield scrapy.Request("http://shop.example/page/basket", self.parse, meta=pin,
                                 errback=self.failed)""",
)


@pytest.mark.parametrize("trouble", ["page", "init"])
def test_a_pin_holds_through_a_renewal(
    make_world: Callable[..., World], crawl: Crawler, trouble: str
) -> None:
    """Blocked afterwards, or its session gone in the init, a pinned page goes through no other."""
    world = make_world(10, proxy={"in_turn": True})
    club = Club(world)
    if trouble == "init":
        world.site.on("/welcome", lambda _: "captcha" if club.expelled else None)
    else:
        world.site.on("/page/basket", lambda v: "captcha" if card_of(v) in club.members else None)
    club.expel_at("/page/basket")
    first = urls(world, 1, "/page/first")
    result = run(crawl, first, through(world, RETRY_TIMES=3), PINNED)
    assert_clean(world, result)
    assert [item["url"] for item in result.items if "url" in item] == first
    error = "IgnoredSessionGone" if trouble == "init" else "IgnoredGiveUp"
    assert [item["error"] for item in result.items if "failed" in item] == [error]
    baskets = {p.session for p in world.proxy.passages if p.target.endswith("/page/basket")}
    assert len(baskets) == 1


def test_dont_retry_gets_the_logged_out_page(world: World, crawl: Crawler) -> None:
    """It is passed on as any other: with its session and verdict in the meta."""
    Club(world)
    world.site.on("/page/1", {"body": "Please sign in", "headers": {"Content-Type": "text/html"}})
    page = {"url": world.url("/page/1"), "meta": {"dont_retry": True}}
    result = run(crawl, [page], through(world))
    assert_clean(world, result)
    (item,) = result.items
    assert item["session"]
    assert stat(result, "sessions/retired") == stat(result, "retries") == 0


def test_a_logged_out_page_is_not_cached(world: World, crawl: Crawler) -> None:
    """The page is fetched anew in the session that was prepared again; each answer is asked once."""
    club = Club(world)
    club.expel_at("/page/2")
    settings = through(world, HTTPCACHE_ENABLED=True, CONCURRENT_REQUESTS=1, POLICY="until-blocked")
    result = run(crawl, urls(world, 5), settings)
    assert_clean(world, result)
    assert [item["title"] for item in result.items] == ["A page"] * 5
    assert stat(result, "logged_out") == 1
    assert stat(result, "cached") == 0
    assert result.stats["httpcache/store"] == 5
    assert result.stats["watch/verdicts"] == 0
