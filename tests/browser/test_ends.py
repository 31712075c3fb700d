"""No crawl hangs for its browser contexts, whatever holds them, and none is left."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from tests.browser.scenery import PATIENCE, assert_tidy, browsing, by_browser
from tests.crawls.scenery import stat, urls
from tests.world.test_demo import run_demo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import World

    from tests.world.crawls import Crawler


def test_close_with_pages_in_flight(make_world: Callable[..., World], crawl: Crawler) -> None:
    """A crawl that is asked to end ends, with pages under way and others waiting for a context."""
    world = make_world(16, proxy={"in_turn": True})
    settings = browsing(
        world,
        POLICY="round-robin",
        MAX_SESSIONS=8,
        CONCURRENT_REQUESTS=6,
        PLAYWRIGHT_MAX_CONTEXTS=2,
    )
    running = crawl.start(by_browser([*urls(world, 2), *urls(world, 30, "/slow/3?{}")]), settings)
    deadline = time.monotonic() + PATIENCE
    while not any("slow" in v.path for v in world.site.visits) and time.monotonic() < deadline:
        time.sleep(0.1)
    running.terminate()
    result = running.wait(timeout=120)
    assert_tidy(world, result)
    assert result.reason == "shutdown"
    assert 2 <= len(result.pages) < 32
    assert result.stats["watch/most_contexts"] <= 2


def test_contexts_of_others(make_world: Callable[..., World], crawl: Crawler) -> None:
    """A request without a session gets a context although idle ones of sessions fill the bound."""
    world = make_world(8, proxy={"in_turn": True})
    own = {"session_filter": False, "playwright_context": "mine"}
    pages = urls(world, 3)
    requests = [
        *by_browser(pages),
        *by_browser([world.direct_url("/page/own")], **own),
    ]
    for number, request in enumerate(requests):
        request["priority"] = -number
    settings = browsing(
        world,
        POLICY="round-robin",
        MAX_SESSIONS=2,
        CONCURRENT_REQUESTS=1,
        PLAYWRIGHT_MAX_CONTEXTS=2,
    )
    result = crawl(requests, settings, timeout=PATIENCE)
    assert set(result.pages) == {request["url"] for request in requests}
    assert [visit.path for visit in world.site.direct_visits] == ["/page/own"]
    assert stat(result, "opted_out") == 1
    assert result.stats["watch/contexts"] == 1  # that request's own, not ours to close


def test_browser_demo(tmp_path: Path) -> None:
    """The demo crawls pages that need JavaScript, and remembers its visitors."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    command = "demo_browser.py"
    lines = run_demo(tmp_path, command, timeout=PATIENCE, SHOP_GATEWAY_PORT=str(port))
    runs = [line for line in lines if "products" in line]
    assert len(runs) == 2
    for line in runs:
        assert "48 of 48 products" in line
        assert "0 requests from the machine's own address" in line
    assert " 0 sessions remembered" in runs[0]
    assert " 0 sessions remembered" not in runs[1]


def test_no_browser(world: World, crawl: Crawler) -> None:
    """Where no browser starts, the crawl ends before its first request, and says what to do."""
    options = {"executable_path": "/nowhere/chromium"}
    settings = browsing(world, PLAYWRIGHT_LAUNCH_OPTIONS=options)
    result = crawl(by_browser(urls(world, 2)), settings, timeout=PATIENCE)
    assert "Closing spider (session_filter_no_browser)" in result.log
    assert not world.site.visits
    assert "PLAYWRIGHT_LAUNCH_OPTIONS" in result.log
    assert "apt install chromium" in result.log
