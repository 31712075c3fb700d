"""Bad settings and odd credentials in real crawls: nothing goes out that should not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import World

    from tests.world.crawls import Crawler

PREFIX = "SESSION_FILTER_"


def ours(**settings: Any) -> dict[str, Any]:
    return {f"{PREFIX}{name}": value for name, value in {"STORE": "memory:", **settings}.items()}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ours(PROXY="http:/user:topsecret@gw:1"),
            "SESSION_FILTER_PROXY = '***@gw:1': expected '//'",
        ),
        (ours(PROXIES="missing.txt"), "SESSION_FILTER_PROXIES = 'missing.txt'"),
        (ours(PROXY="http://h:1", MAX_AGES=5), "perhaps SESSION_FILTER_MAX_AGE"),
        (ours(PROXY="http://h:1", POLICY="no_such.Policy"), "No module named 'no_such'"),
        (ours(), "SESSION_FILTER_PROXY = None"),
    ],
)
def test_bad_setting_ends_the_crawl_before_its_first_request(
    settings: dict[str, Any], said: str, world: World, crawl: Crawler
) -> None:
    """The exit code is not 0, nothing reaches site or proxy, and one line says what is wrong."""
    result = crawl([world.direct_url("/page/1")], settings)
    assert result.exit_code != 0
    assert not world.site.visits
    assert not world.proxy.passages
    assert any(said in line and "ConfigurationError" in line for line in result.log.splitlines())
    assert "topsecret" not in result.log


@pytest.mark.parametrize(
    ("user", "password", "https"),
    [
        ("us@er/#?", "p:w@/#?%41%", False),
        ("us@er/#?", "p:w@/#?%41%", True),
        ("ü 日&=+", "¡«»ß😀", False),
        ("ü 日&=+", "¡«»ß😀", True),
        ("{x}{0}", "", False),
    ],
)
def test_credentials_arrive_as_they_are(
    user: str, password: str, https: bool, make_world: Callable[..., World], crawl: Crawler
) -> None:
    """The proxy at the other end of the wire sees the very user name and password that were meant."""
    expected = {"template": f"{user}-session-{{session}}", "password": password}
    world = make_world(4, proxy=expected)
    credentials = f"{quote(user, safe='')}-session-{{session}}:{quote(password, safe='')}"
    gateway = f"http://{credentials}@127.0.0.1:{world.proxy.port}"
    settings = {**ours(PROXY=gateway), "HTTPPROXY_AUTH_ENCODING": "utf-8"}
    result = crawl([world.url("/page/1", https=https)], settings, timeout=20)
    assert len(result.pages) == 1, result.log
    (passage,) = world.proxy.passages
    assert passage.user is not None
    assert passage.user.startswith(f"{user}-session-")
    assert "{session" not in passage.user
    assert passage.password == password


PROXY_FUNCTION = """
async def proxies():
    {body}
"""


def test_async_proxies_are_awaited_before_the_first_request(
    world: World, crawl: Crawler, tmp_path: Path
) -> None:
    """An ``async def`` named by its path gives the proxies of the crawl."""
    body = f"import asyncio; await asyncio.sleep(0.1); return {world.proxies()!r}"
    (tmp_path / "own_proxies.py").write_text(PROXY_FUNCTION.format(body=body))
    pages = [world.url(f"/page/{n}") for n in range(8)]
    result = crawl(pages, ours(PROXIES="own_proxies.proxies"))
    assert set(result.pages) == set(pages)
    assert not world.site.direct_visits


@pytest.mark.parametrize(
    "body", ["raise OSError('http://u:topsecret@api')", "return []", "return None"]
)
def test_async_proxies_that_fail_close_the_spider_with_a_reason(
    body: str, world: World, crawl: Crawler, tmp_path: Path
) -> None:
    """Without proxies nothing is requested, not even directly."""
    (tmp_path / "own_proxies.py").write_text(PROXY_FUNCTION.format(body=body))
    result = crawl([world.direct_url("/page/1")], ours(PROXIES="own_proxies.proxies"))
    assert "Spider closed (session_filter_no_proxies)" in result.log
    assert not world.site.visits
    assert "SESSION_FILTER_PROXIES" in result.log
    assert "topsecret" not in result.log


def test_case_24_environment_neither_replaces_nor_switches_off_the_proxy(
    world: World, crawl: Crawler
) -> None:
    """``http_proxy`` and ``no_proxy`` mean nothing to requests that carry a session."""
    env = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "*"}
    result = crawl.start([world.url("/page/1")], ours(PROXY=world.gateway), env=env).wait()
    assert len(result.pages) == 1
    assert len(world.proxy.passages) == 1
    assert not world.site.direct_visits
