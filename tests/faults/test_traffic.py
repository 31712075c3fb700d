"""Odd traffic in real crawls: nobody's credentials on another's request, nothing round the proxy."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.crawls.scenery import assert_clean, stat, through, urls

if TYPE_CHECKING:
    from loopback import World

    from tests.world.crawls import Crawler


def test_one_address_with_several_users(world: World, crawl: Crawler) -> None:
    """On one host and port each session has its own user, or none, over retries and redirects."""
    address = world.proxies(world.exits[:1])[0].rpartition("//")[2]
    users = ["one:p", "two:p", "three:q"]
    proxies = [*(f"http://{user}@{address}" for user in users), f"http://{address}"]
    world.site.on("/page/*", {"like": "unavailable"}, times=8)
    pages = [*urls(world, 20), *(world.url(f"/redirect?to=/page/r{n}") for n in range(5))]
    settings = through(
        world, PROXIES=proxies, POLICY="round-robin", CONCURRENT_REQUESTS=1, RETRY_TIMES=10
    )
    result = crawl(pages, settings)
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert len(world.proxy.passages) == len(world.site.visits)  # one after the other
    seen = defaultdict(set)
    for passage, visit in zip(world.proxy.passages, world.site.visits, strict=True):
        seen[visit.headers["user-agent"] + visit.headers.get("cookie", "")].add(passage.user)
    sent = {(passage.user, passage.password) for passage in world.proxy.passages}
    assert sent == {("one", "p"), ("two", "p"), ("three", "q"), (None, None)}
    with_cookie = {key: found for key, found in seen.items() if "visitor=" in key}
    assert len(with_cookie) == 4
    assert all(len(found) == 1 for found in with_cookie.values())


def test_strange_pins_find_no_session(world: World, crawl: Crawler) -> None:
    """A pin that is no session's id reaches the errback as gone, and nothing is sent."""
    pins = ["", "../../etc", "a\r\nb", "A" * 12, "x" * 10_000, "é" * 12, "aaaaaaaaaaaa", 5, True]
    requests = [
        {"url": world.url(f"/page/{n}"), "meta": {"session_filter_session": pin}}
        for n, pin in enumerate(pins)
    ]
    result = crawl(requests, through(world))
    assert_clean(world, result)
    assert {item["error"] for item in result.items} == {"IgnoredSessionGone"}
    assert len(result.failures) == len(pins)
    assert not world.site.visits


HOOK = """
import scrapy

class Meddling(scrapy.Spider):
    name = "meddling"

    async def start(self):
        for url in self.settings["URLS"]:
            yield scrapy.Request(url)

    def session_filter_blocked(self, response):
        request = response.request
        request.meta["proxy"] = None
        request.meta["cookiejar"] = "other"
        request.headers["Proxy-Authorization"] = b"Basic eDp5"
        return response.status == 404

    def parse(self, response):
        yield {"url": response.url, "status": response.status}
"""


def test_a_hook_cannot_bare_a_request(world: World, crawl: Crawler) -> None:
    """A page whose request the spider's hook has tampered with is refused; it never goes bare."""
    world.site.on("/page/?", "not-found", times=5)
    pages = [world.direct_url(f"/page/{n}") for n in range(10)]
    result = crawl(HOOK, through(world, URLS=pages))
    assert_clean(world, result)
    assert len(result.pages) == stat(result, "refused") == stat(result, "retries") == 5
    assert result.log.count('its meta "proxy" is empty') == 5
    assert {passage.password for passage in world.proxy.passages} == {"secret"}
    assert {item["status"] for item in result.items} == {200}


def test_redirects_to_where_no_proxy_helps(world: World, crawl: Crawler) -> None:
    """Redirects to files, other schemes and the proxy itself go nowhere without the session."""
    (crawl.folder / "local.html").write_text("local")
    ends = [
        (crawl.folder / "local.html").as_uri(),
        f"ftp://127.0.0.1:{world.site.port}/page/1",
        "s3://bucket/key",
        "data:text/html,hello",
        f"http://127.0.0.1:{world.proxy.port}/page/2",
    ]
    pages = [world.url(f"/redirect?to={quote(end, safe='')}") for end in ends]
    follow = [{"url": page} for page in pages]
    refresh = f'<html><meta http-equiv="refresh" content="0; url={ends[1]}"></html>'
    world.site.on("/refresh", {"like": "ok", "body": refresh})
    settings: dict[str, Any] = through(
        world, RETRY_TIMES=1, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b"
    )
    result = crawl([*follow, world.url("/refresh")], settings)
    assert result.exit_code == 0
    assert {visit.path.partition("?")[0] for visit in world.site.visits} == {
        "/redirect",
        "/refresh",
    }
    finals = {item["final"] for item in result.pages.values()}
    assert not [final for final in finals if not final.startswith("http://shop.example/")]
    asked = [p for p in world.proxy.passages if f":{world.proxy.port}" in p.target]
    assert {p.password for p in asked} <= {"secret"}
    assert "local" not in {item["title"] for item in result.pages.values()}
