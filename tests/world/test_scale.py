"""The measure of the whole: many pages through proxies most of which do not work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler

PAGES = 1500


def test_two_hundred_proxies(make_world: Callable[..., World], crawl: Crawler) -> None:
    """With 60 % banned, soft-banned or dead, classic delivers all for 1.8 requests a page at most."""
    world = make_world(200, seed=3)
    proxies = world.proxies()
    bad = world.pick_exits(0.6)
    world.ban(bad[:40], "forbidden")
    world.ban(bad[40:60], "captcha")
    world.ban(bad[60:80], "captcha-gzip")
    world.ban(bad[80:100], "captcha-redirect")
    world.kill(bad[100:])
    urls = [world.url(f"/page/{n}") for n in range(PAGES)]
    settings = {
        "SESSION_FILTER_PROXIES": proxies,
        "SESSION_FILTER_POLICY": "classic",
        "CONCURRENT_REQUESTS": 32,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 32,
    }
    result = crawl(urls, settings, timeout=120)
    assert (result.exit_code, result.reason) == (0, "finished")
    assert {page["title"] for page in result.pages.values()} == {f"Page {n}" for n in range(PAGES)}
    assert not world.site.direct_visits
    assert result.stats["session_filter/in_flight"] == 0
    assert result.stats["downloader/request_count"] <= 1.8 * PAGES
