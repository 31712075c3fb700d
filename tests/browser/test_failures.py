"""What goes wrong in a browser is blamed on whoever did it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.browser.scenery import (
    PATIENCE,
    assert_tidy,
    browsing,
    by_browser,
    ignoring_certificates,
)
from tests.crawls.scenery import urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler


def reasons(stats: dict[str, Any]) -> set[str]:
    """What failed in a crawl, by the last part of the stats' names."""
    begin = ("session_filter/reasons/", "session_filter/blocked/")
    return {name.rpartition("/")[2] for name in stats if name.startswith(begin)}


def test_bad_proxies(make_world: Callable[..., World], crawl: Crawler) -> None:
    """A proxy that refuses, denies the password, or keeps silent is a PROXY_ERROR; others deliver."""
    world = make_world(8, proxy={"list_auth": "user:secret"})
    good, refusing, silent, wrong = world.exits[:4]
    world.kill([refusing])
    world.proxy.spoil([silent], "black-hole")
    proxies = world.proxies([good, refusing, silent])
    world.kill([refusing])
    proxies.append(world.proxies([wrong])[0].replace("secret", "mistaken"))
    pages = [*urls(world, 6), *urls(world, 6, "/page/s{}", https=True)]
    settings = browsing(
        world,
        PROXIES=proxies,
        POLICY="round-robin",
        RETRY_TIMES=20,
        SESSION_FILTER_BROWSER_CONTEXT=ignoring_certificates(),
    )
    settings["SESSION_FILTER_FIRST_TIMEOUT"] = 6
    result = crawl(by_browser(pages), settings, timeout=PATIENCE)
    assert_tidy(world, result)
    assert set(result.pages) == set(pages)
    kinds = {name.rpartition("/")[2] for name in result.stats if "/verdicts/" in name}
    assert kinds == {"OK", "PROXY_ERROR"}, result.log[-4000:]
    assert reasons(result.stats) & {"proxy-auth", "status-407", "proxy-error-page"}
    assert {"proxy-refused", "proxy-timeout"} <= reasons(result.stats)
    assert {visit.exit for visit in world.site.visits} == {good}


def test_troubles_of_the_site(make_world: Callable[..., World], crawl: Crawler) -> None:
    """A lost connection and a slow page cost no session; an empty 403 is an answer, and a block."""
    world = make_world(16, proxy={"in_turn": True})
    world.site.on("/page/1", "close", times=3)
    world.site.on("/page/2", {"status": 403, "body": "", "block": True}, times=1)
    world.site.on("/page/3", {"like": "ok", "body": "<img src=/slow/60><h1>x</h1>"}, times=1)
    world.site.on("/slow/60", {"like": "ok", "delay": 60})
    world.site.on("/page/4", "unavailable", times=1)
    pages = [
        *urls(world, 4),
        world.url("/redirect?to=/page/4"),
    ]
    settings = browsing(
        world, POLICY="random", MAX_SESSIONS=3, PLAYWRIGHT_DEFAULT_NAVIGATION_TIMEOUT=12000
    )
    result = crawl(by_browser(pages), settings, timeout=PATIENCE)
    assert_tidy(world, result)
    assert set(result.pages) == set(pages), result.failures
    assert result.pages[pages[-1]]["final"] == world.url("/page/4")
    assert {"connection-lost", "timeout", "status-403", "status-503"} <= reasons(result.stats)
    verdicts = {n.rpartition("/")[2]: v for n, v in result.stats.items() if "/verdicts/" in n}
    assert verdicts == {"OK": 5, "SITE_ERROR": 3, "BLOCKED": 1}
    assert result.stats["retry/count"] == 3


SPIDER = """
    import scrapy
    from scrapy_playwright.page import PageMethod

    class Waiting(scrapy.Spider):
        name = "waiting"

        async def start(self):
            for path in ("/app/1", "/app/2", "/page/3"):
                meta = {{
                    "playwright": True,
                    "playwright_page_methods": [
                        PageMethod("wait_for_selector", ".product", timeout=4000)
                    ],
                    "max_retry_times": 1,
                }}
                yield scrapy.Request(f"{root}{{path}}", errback=self.failed, meta=meta)

        def parse(self, response):
            yield {{"url": response.url, "name": response.css("h2::text").get()}}

        def failed(self, failure):
            yield {{"url": failure.request.url, "error": type(failure.value).__name__}}
"""


def test_waiting_for_what_a_block_page_does_not_have(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """A page method that fails on a captcha page is a block; on a page it is the page's matter."""
    world = make_world(16, proxy={"in_turn": True})
    world.site.on("/app/1", "captcha", times=1)
    settings = browsing(world, POLICY="random", MAX_SESSIONS=3)
    result = crawl(SPIDER.format(root=world.url("")), settings, timeout=PATIENCE)
    assert_tidy(world, result)
    assert {item["url"]: item.get("name") or item.get("error") for item in result.items} == {
        world.url("/app/1"): "Chair 1",
        world.url("/app/2"): "Chair 2",
        world.url("/page/3"): "TimeoutError",
    }
    verdicts = {n.rpartition("/")[2]: v for n, v in result.stats.items() if "/verdicts/" in n}
    assert verdicts == {"OK": 2, "BLOCKED": 1, "SITE_ERROR": 2}
