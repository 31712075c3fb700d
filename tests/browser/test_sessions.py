"""A session is a browser context of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.scenery import PATIENCE, assert_tidy, browsing, by_browser, ignoring_certificates
from tests.crawls.scenery import urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler


@pytest.mark.parametrize("https", [False, True])
def test_two_sessions(make_world: Callable[..., World], crawl: Crawler, https: bool) -> None:
    """Two sessions go through two authenticating exits with their own User-Agents and cookies."""
    world = make_world(8, proxy={"in_turn": True, "password": "secret"})
    settings = browsing(
        world,
        POLICY="round-robin",
        MAX_SESSIONS=2,
        IDENTITY="tests.browser.identities.two_systems",
        SESSION_FILTER_BROWSER_CONTEXT=ignoring_certificates(),
    )
    requests = by_browser(urls(world, 8, https=https))
    result = crawl(requests, settings, timeout=PATIENCE)
    print(result.log[-6000:])
    for v in world.site.visits:
        print(v.exit, v.path, v.headers)
    assert_tidy(world, result)
    assert len(result.pages) == 8
