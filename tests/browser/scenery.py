"""What the browser tests have in common: settings, requests, and what must hold at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shop.chromium import find_chromium, launch_options

from tests.crawls.scenery import through

if TYPE_CHECKING:
    from loopback import World

    from tests.world.crawls import Crawl

HANDLER = "scrapy_playwright.handler.ScrapyPlaywrightDownloadHandler"
PATIENCE = 400.0
"""Seconds a crawl with a browser may take on a machine that has other things to do."""


def browsing(world: World, **settings: Any) -> dict[str, Any]:
    """Settings of a crawl with Chromium through the gateway; as `through`."""
    path = find_chromium()
    assert path is not None
    ours = {
        "DOWNLOAD_HANDLERS": {"http": HANDLER, "https": HANDLER},
        "PLAYWRIGHT_LAUNCH_OPTIONS": launch_options(path),
        "PLAYWRIGHT_DEFAULT_NAVIGATION_TIMEOUT": 20_000,
        "CONCURRENT_REQUESTS": 6,
        "SESSION_FILTER_FIRST_TIMEOUT": 20,
        "DOWNLOAD_TIMEOUT": 30,
        "LOG_LEVEL": "INFO",  # at DEBUG scrapy-playwright follows every request of a page
    }
    watch = {"tests.browser.watch.BrowserWatch": 0, **settings.pop("EXTENSIONS", {})}
    return through(world, **{**ours, **settings, "EXTENSIONS": watch})


def by_browser(urls: list[str], **meta: Any) -> list[dict[str, Any]]:
    """Requests for these pages by browser, for `tests.world.pages_spider`."""
    return [{"url": url, "meta": {"playwright": True, **meta}} for url in urls]


def ignoring_certificates(**more: Any) -> dict[str, Any]:
    """Options of contexts that take the site's own certificate."""
    return {"ignore_https_errors": True, **more}


def assert_tidy(world: World, result: Crawl) -> None:
    """Nothing went out bare, every lease ended by itself, no browser context or jar is left."""
    assert result.exit_code == 0, result.log[-3000:]
    assert not world.site.direct_visits
    for name in ("leases", "in_flight", "orphan_jars"):
        assert result.stats[f"watch/{name}"] == 0, name
    pages_failed = result.log.count("Closing page due to failed request")  # with its traceback
    assert result.log.count("Traceback") == pages_failed, result.log
    assert result.stats["watch/contexts"] == 0
    opened = result.stats.get("session_filter/contexts/opened", 0)
    assert result.stats.get("session_filter/contexts/closed", 0) == opened
