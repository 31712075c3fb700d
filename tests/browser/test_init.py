"""session_filter_init by browser: the cookie that JavaScript sets opens the pages by plain HTTP."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.browser.scenery import PATIENCE, assert_tidy, browsing
from tests.crawls.scenery import stat

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import Visit, World

    from tests.world.crawls import Crawler

SPIDER = """
import scrapy
from scrapy_playwright.page import PageMethod

class Recognised(scrapy.Spider):
    name = "recognised"

    async def start(self):
        for number in range(24):
            by_browser = {"playwright": True} if number % 8 == 0 else {}
            yield scrapy.Request(f"http://shop.example/members/{number}", meta=by_browser,
                                 errback=self.failed)

    async def session_filter_init(self, session, fetch):
        wait = PageMethod("wait_for_selector", "h2, form")
        meta = {"playwright": True, "playwright_page_methods": [wait]}
        page = await fetch(scrapy.Request("http://shop.example/app/7", meta=meta))
        return "Chair 7" in page.text

    def session_filter_logged_out(self, response):
        return "Sign in" in response.text

    def parse(self, response):
        yield {"url": response.url, "title": response.css("title::text").get()}

    def failed(self, failure):
        yield {"error": failure.getErrorMessage()}
"""


def member(visit: Visit) -> dict[str, str] | None:
    """A page that only those see who ran the script of /app: it set a cookie."""
    return {"like": "ok"} if "seen=7" in visit.headers.get("cookie", "") else {"like": "login"}


def test_sessions_are_prepared_by_browser(make_world: Callable[..., World], crawl: Crawler) -> None:
    """Each session opens one page by browser first; its pages follow by HTTP and by browser."""
    world = make_world(8, proxy={"in_turn": True})
    world.site.on("/members/*", member)
    world.ban(world.exits[:1], "captcha")
    settings = browsing(
        world,
        POLICY="round-robin",
        MAX_SESSIONS=3,
        CONCURRENT_REQUESTS=8,
        PLAYWRIGHT_MAX_CONTEXTS=2,
    )
    result = crawl(SPIDER, settings, timeout=PATIENCE)
    assert_tidy(world, result)
    assert not [item for item in result.items if "error" in item]
    assert len({item["url"] for item in result.items}) == 24
    assert {item["title"] for item in result.items} == {"A page"}
    asked: dict[str, list[str]] = defaultdict(list)
    for visit in world.site.visits:
        asked[visit.exit].append(visit.path)
    banned = asked.pop(world.exits[0])
    assert not [path for path in banned if path.startswith("/members")]
    assert 1 <= stat(result, "inits/ok") <= len(asked) <= 3
    for paths in asked.values():
        assert paths[0] == "/app/7"
        assert paths.count("/app/7") == 1
    assert stat(result, "inits/failed") == stat(result, "sessions/retired/blocked") == 1
    assert stat(result, "logged_out") == 0
