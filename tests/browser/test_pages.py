"""What scrapy-playwright offers goes on working, and no page outlives its attempt."""

from __future__ import annotations

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

    def asked(page, request):
        request.meta["initialised"] = True

    async def initialise(page, request):
        request.meta["initialised"] = True

    class Pages(scrapy.Spider):
        name = "pages"
        root = "{root}"

        def ask(self, path, callback, **meta):
            meta["playwright"] = True
            return scrapy.Request(self.root + path, callback, errback=self.failed, meta=meta)

        async def start(self):
            include = {{"playwright_include_page": True}}
            yield self.ask("/page/1", self.go_on, **include)
            yield self.ask("/once", self.blocked_first, **include)
            yield self.ask("/redirect?to=/page/5", self.parse)
            yield self.ask(
                "/app/7",
                self.parse,
                playwright_page_methods=[PageMethod("wait_for_selector", "h2")],
                playwright_page_init_callback=initialise,
                playwright_context_kwargs={{"viewport": {{"width": 640, "height": 480}}}},
            )
            yield self.ask(
                "/gate",
                self.parse,
                playwright_page_methods=[PageMethod("wait_for_selector", "a")],
            )
            yield self.ask("/page/8", self.parse, playwright_context="mine")
            yield self.ask("/page/9", self.parse, playwright_context_kwargs={{"proxy": {{}}}})

        def said(self, response):
            return {{
                "url": response.url,
                "status": response.status,
                "title": response.css("title::text").get(),
                "name": response.css("h2::text").get(),
                "session": response.meta["session_filter_session"],
                "redirects": response.meta.get("redirect_urls"),
                "initialised": response.meta.get("initialised"),
                "left": sorted(key for key in response.meta if key.endswith("kwargs")),
            }}

        def parse(self, response):
            yield self.said(response)

        async def go_on(self, response):
            page = response.meta["playwright_page"]
            yield self.said(response) | {{"evaluated": await page.evaluate("document.title")}}
            yield self.ask(
                "/page/2", self.finish, playwright_page=page, playwright_include_page=True
            )

        async def finish(self, response):
            yield self.said(response) | {{"same": True}}
            await response.meta["playwright_page"].close()

        async def blocked_first(self, response):
            page = response.meta["playwright_page"]
            yield self.said(response) | {{"pages": len(page.context.pages)}}
            await page.close()

        def failed(self, failure):
            yield {{"error": failure.getErrorMessage(), "url": failure.request.url}}
"""

CHALLENGE = (
    "<title>Just a moment...</title><script>window._cf_chl_opt={};"
    "document.cookie='passed=1; path=/'; setTimeout(() => location.reload(), 50)</script>"
)


def gate(visit: Visit) -> dict[str, object]:
    """A challenge that a browser passes by itself."""
    if "passed=1" in visit.headers.get("cookie", ""):
        return {"like": "ok"}
    return {"status": 403, "body": CHALLENGE, "headers": {"Content-Type": "text/html"}}


def test_pages_methods_redirects_and_challenges(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """Pages, page methods, init callbacks and redirects work; a retry gets a page of its own."""
    world = make_world(16, proxy={"in_turn": True})
    world.site.on("/once", "ok")
    world.site.on("/once", "forbidden", times=1)
    world.site.on("/gate", gate)
    settings = browsing(world, POLICY="round-robin", MAX_SESSIONS=3)
    result = crawl(SPIDER.format(root=world.url("")), settings, timeout=PATIENCE)
    assert_tidy(world, result)
    refused = {item["url"]: item["error"] for item in result.items if "error" in item}
    assert set(refused) == {world.url("/page/8"), world.url("/page/9")}, refused
    assert "session_filter_session" in refused[world.url("/page/8")]
    assert "'proxy'" in refused[world.url("/page/9")]
    got = {item["url"]: item for item in result.items if "error" not in item}
    assert {item["status"] for item in got.values()} == {200}
    assert got[world.url("/page/1")]["evaluated"] == "Page 1"
    assert got[world.url("/page/2")]["session"] == got[world.url("/page/1")]["session"]
    assert got[world.url("/page/2")]["title"] == "Page 2"
    assert got[world.url("/once")]["pages"] == 1
    assert got[world.url("/page/5")]["redirects"] == [world.url("/redirect?to=/page/5")]
    assert got[world.url("/app/7")]["name"] == "Chair 7"
    assert got[world.url("/app/7")]["initialised"]
    assert got[world.url("/app/7")]["left"] == ["playwright_context_kwargs"]  # the request's own
    assert got[world.url("/gate")]["title"] == "A page"
    assert stat(result, "verdicts/BLOCKED") == 1  # /once, and not the challenge
    exits = {visit.exit for visit in world.site.visits if visit.path == "/once"}
    assert len(exits) == 2
    assert stat(result, "refused") == 2
