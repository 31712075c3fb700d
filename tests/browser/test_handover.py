"""One session by browser and by plain HTTP: the site sees one visitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.browser.scenery import PATIENCE, assert_tidy, browsing
from tests.crawls.scenery import cookie
from tests.test_readme import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import Visit, World

    from tests.world.crawls import Crawler

SPIDER = """
    import scrapy

    class HandOver(scrapy.Spider):
        name = "handover"

        async def start(self):
            yield self.ask("{app}", self.parse_first, playwright=True)

        def ask(self, url, callback, **meta):
            return scrapy.Request(url, callback, errback=self.failed, meta=meta, dont_filter=True)

        def parse_first(self, response):
            yield {{"name": response.css("h2::text").get(), "session": self.session_of(response)}}
            for number in range(50):
                yield self.ask(f"{page}/{{number}}", self.parse_page, **self.pin(response))

        pages = 0

        def parse_page(self, response):
            yield {{"url": response.url, "status": response.status}}
            self.pages += 1
            if self.pages == 50:
                back = self.pin(response)
                yield self.ask("{back}", self.parse_last, playwright=True, **back)

        def parse_last(self, response):
            yield {{"last": response.url, "session": self.session_of(response)}}

        def session_of(self, response):
            return response.meta["session_filter_session"]

        def pin(self, response):
            return {{"session_filter_session": self.session_of(response)}}

        def failed(self, failure):
            yield {{"error": failure.getErrorMessage()}}
"""


def member(visit: Visit) -> dict[str, str] | None:
    """A page that only those see who ran the script of /app: it set a cookie."""
    return {"like": "ok"} if "seen=7" in visit.headers.get("cookie", "") else {"like": "login"}


def test_log_in_by_browser_go_on_by_http_and_back(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """A cookie that JavaScript set opens 50 pages by HTTP; one that HTTP got is in the browser."""
    world = make_world(8, proxy={"in_turn": True})
    world.site.on("/members/*", member)
    world.site.on("/members/49", {"like": "ok", "headers": {"Set-Cookie": "basket=49; Path=/"}})
    spider = SPIDER.format(
        app=world.url("/app/7"), page=world.url("/members"), back=world.url("/app/9")
    )
    result = crawl(spider, browsing(world, CONCURRENT_REQUESTS=4), timeout=PATIENCE)
    assert_tidy(world, result)
    assert not [item for item in result.items if "error" in item]
    assert result.items[0]["name"] == "Chair 7"
    assert sum("status" in item for item in result.items) == 50
    assert result.items[-1] == {"last": world.url("/app/9"), "session": result.items[0]["session"]}
    visits = world.site.visits
    assert {visit.answer for visit in visits if visit.path.startswith("/members")} <= {
        "ok",
        "custom",
    }
    assert len({visit.exit for visit in visits}) == 1
    for name in ("user-agent", "accept-language"):
        assert len({visit.headers[name] for visit in visits}) == 1, name
    assert "HeadlessChrome" not in visits[0].headers["user-agent"]
    assert "Chrome/" in visits[0].headers["user-agent"]
    assert len({cookie(visit) for visit in visits} - {""}) == 1
    assert not cookie(visits[0])
    assert all(cookie(visit) for visit in visits[1:])
    last = next(visit for visit in visits if visit.path == "/app/9")
    assert "basket=49" in last.headers["cookie"]
    assert "seen=7" in last.headers["cookie"]


def test_the_example_of_the_readme(make_world: Callable[..., World], crawl: Crawler) -> None:
    """The spider of the README goes on as the same visitor."""
    world = make_world(8)
    result = crawl(EXAMPLES["browser"], browsing(world), timeout=PATIENCE)
    assert_tidy(world, result)
    names = [(item["by"], item["name"]) for item in result.items]
    assert names == [("browser", "Chair 1"), ("http", "Chair 2")]
    assert len({visit.exit for visit in world.site.visits}) == 1
    product = next(visit for visit in world.site.visits if visit.path == "/product/2")
    assert "seen=1" in product.headers["cookie"]
