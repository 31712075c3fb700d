"""The plugin through proxies that are not ours."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from loopback import World

    from tests.world.crawls import Crawler
    from tests.world.real_proxies import RealProxy

BROWSER = {"user-agent", "accept-language", "sec-ch-ua", "sec-ch-ua-platform"}


@pytest.mark.parametrize("https", [False, True])
def test_squid_gateway(world: World, squid: RealProxy, crawl: Crawler, https: bool) -> None:
    """Every page comes through squid although half of its exits are refused, none goes direct."""
    world.ban(world.exits[::4], "captcha-gzip")
    world.ban(world.exits[1::4], "captcha-redirect")
    urls = [world.direct_url(f"/page/{n}", https=https) for n in range(60)]
    result = crawl(urls, {"SESSION_FILTER_PROXY": squid.url})
    assert (result.exit_code, result.reason) == (0, "finished")
    assert {url: page["title"] for url, page in result.pages.items()} == {
        url: f"Page {n}" for n, url in enumerate(urls)
    }
    assert not world.site.direct_visits
    assert world.site.blocked > 0
    assert result.stats["session_filter/verdicts/BLOCKED"] == world.site.blocked
    assert result.stats["session_filter/in_flight"] == 0


@pytest.mark.parametrize("https", [False, True])
def test_visitors_stay_themselves(
    world: World, squid: RealProxy, crawl: Crawler, https: bool
) -> None:
    """A cookie is never seen with another exit or another browser than it was given to."""
    urls = [world.direct_url(f"/page/{n}", https=https) for n in range(80)]
    settings = {"SESSION_FILTER_PROXY": squid.url, "SESSION_FILTER_MAX_SESSIONS": 8}
    result = crawl(urls, {**settings, "CONCURRENT_REQUESTS": 4})
    assert len(result.pages) == 80
    seen = defaultdict(set)
    for visit in world.site.visits:
        browser = tuple(sorted((k, v) for k, v in visit.headers.items() if k in BROWSER))
        seen[visit.headers.get("cookie", "")].add((visit.exit, browser))
        assert "proxy-authorization" not in visit.headers
    seen.pop("")
    assert seen
    assert all(len(visitors) == 1 for visitors in seen.values())


@pytest.mark.parametrize("https", [False, True])
def test_tinyproxy_in_a_list(
    world: World, tinyproxy: RealProxy, crawl: Crawler, https: bool
) -> None:
    """Of two ways to the same proxy the one with the wrong password is given up, the other serves."""
    wrong = tinyproxy.url.replace("someone:secret", "nobody:wrong")
    urls = [world.direct_url(f"/page/{n}", https=https) for n in range(20)]
    result = crawl(urls, {"SESSION_FILTER_PROXIES": [wrong, tinyproxy.url]})
    assert len(result.pages) == 20, result.failures
    assert {visit.exit for visit in world.site.visits} == {world.exits[0]}
    assert result.stats["session_filter/verdicts/PROXY_ERROR"] > 0
    for secret in ("secret", "wrong"):
        assert secret not in result.log


@pytest.mark.parametrize("https", [False, True])
def test_impersonated_browsers_through_squid(
    world: World, squid: RealProxy, crawl: Crawler, https: bool
) -> None:
    """Sessions of curl log in at squid each as themselves, in tunnels and without."""
    pytest.importorskip("scrapy_impersonate")
    meta = {"impersonate_args": {"verify": False}}
    urls = [world.direct_url(f"/page/{n}", https=https) for n in range(24)]
    handler = "scrapy_impersonate.ImpersonateDownloadHandler"
    settings = {
        "SESSION_FILTER_PROXY": squid.url,
        "SESSION_FILTER_POLICY": "round-robin",
        "SESSION_FILTER_MAX_SESSIONS": 4,
        "SESSION_FILTER_IMPERSONATE": ["chrome", "firefox"],
        "DOWNLOAD_HANDLERS": {"http": handler, "https": handler},
    }
    result = crawl([{"url": url, "meta": meta} for url in urls], settings)
    assert set(result.pages) == set(urls)
    assert not world.site.direct_visits
    seen = defaultdict(set)
    for visit in world.site.visits:
        seen[visit.headers.get("cookie", "")].add((visit.exit, visit.headers["user-agent"]))
        assert "proxy-authorization" not in visit.headers
    seen.pop("", None)
    assert seen
    assert all(len(visitors) == 1 for visitors in seen.values())
