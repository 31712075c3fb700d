"""A crawl that was killed goes on with its browser sessions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.browser.scenery import PATIENCE, assert_tidy, browsing
from tests.crawls.scenery import cookie, stat

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler

SPIDER = """
    import scrapy
    from scrapy_playwright.page import PageMethod

    class Restarted(scrapy.Spider):
        name = "restarted"

        async def start(self):
            look = PageMethod("evaluate", "() => [localStorage.last, navigator.language]")
            yield scrapy.Request("{url}", meta={{
                "playwright": True,
                "playwright_page_methods": [PageMethod("wait_for_selector", "{wait}"), look],
            }}, cb_kwargs={{"look": look}})
            if self.settings.getbool("LINGER"):
                yield scrapy.Request("{linger}", priority=-1)

        def parse(self, response, look=None):
            yield {{
                "session": response.meta["session_filter_session"],
                "look": look and look.result,
            }}
"""


def test_kill_and_restart(make_world: Callable[..., World], crawl: Crawler) -> None:
    """After kill -9 a session has its proxy, User-Agent, cookies, storage and context options back."""
    world = make_world(8, proxy={"in_turn": True})
    settings = browsing(
        world,
        STORE="sqlite:",
        MAX_SESSIONS=1,
        POLICY="random",
        SAVE_INTERVAL=0.2,
        SESSION_FILTER_BROWSER_CONTEXT="tests.browser.identities.by_chance",
        CONCURRENT_REQUESTS=1,
    )
    first = SPIDER.format(wait="h2", url=world.url("/app/3"), linger=world.url("/slow/60"))
    running = crawl.start(first, {**settings, "LINGER": True})
    deadline = time.monotonic() + PATIENCE
    while not running.items() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1.5)
    killed = running.kill()
    second = SPIDER.format(wait="h1", url=world.url("/page/4"), linger="")
    result = crawl(second, settings, timeout=PATIENCE)
    assert_tidy(world, result)
    assert stat(result, "sessions/restored") == 1
    assert result.items[0]["session"] == killed.items[0]["session"]
    assert result.items[0]["look"] == killed.items[0]["look"]
    assert result.items[0]["look"][0] == "Chair 3"
    assert result.items[0]["look"][1] != "en-US"
    pages = [visit for visit in world.site.visits if visit.path in {"/app/3", "/page/4"}]
    assert len({visit.exit for visit in pages}) == 1
    assert len({visit.headers["user-agent"] for visit in pages}) == 1
    assert "seen=3" in pages[1].headers["cookie"]
    assert cookie(pages[1])
