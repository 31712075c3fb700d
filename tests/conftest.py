"""Fixtures for tests against real sockets.

``world``
    A `loopback.World`: site, gateway and proxy list on the loopback interface, 16 exits, http and
    https. Program it with ``world.ban``, ``world.site.on``, ``world.site.limit``,
    ``world.proxy.spoil``, ``world.kill``; read what happened in ``world.site.visits`` and
    ``world.proxy.passages``::

        world.ban(world.exits[:4], "captcha-gzip")      # a captcha page with status 200, gzipped
        world.site.on("/page/7", "forbidden", times=1)  # the first visit of this page is refused

``make_world``
    The same with arguments: ``make_world(200, subnets=5, proxy={"in_turn": True})``.

``crawl``
    Runs a real Scrapy crawl with the add-on switched on, in a process of its own, and returns a
    `tests.world.crawls.Crawl` (``stats``, ``items``, ``pages``, ``failures``, ``log``,
    ``exit_code``, ``reason``). Takes a spider's source text or a list of requests (URLs or keyword
    arguments of `scrapy.Request`, fetched by `tests.world.pages_spider`), and settings as plain
    values::

        result = crawl([world.url(f"/page/{n}") for n in range(30)],
                       {"SESSION_FILTER_PROXY": world.gateway})
        assert len(result.pages) == 30 and not world.site.direct_visits

    One test's crawls share a project folder (``crawl.folder``), so the second finds the store of
    the first. ``crawl.start(...)`` returns at once: ``.items()``, ``.log()``, ``.interrupt()``,
    ``.terminate()``, ``.kill()``, ``.wait()``.

``plain_crawl``
    The same without the add-on.

``squid``, ``tinyproxy``
    Independent proxies in front of ``world``, skipped where not installed: squid as a gateway with
    sessions as user names, tinyproxy as one proxy with a password. ``.url`` is what the plugin's
    setting takes; crawl ``world.direct_url(...)`` through them, for they resolve names themselves.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from loopback import World

from tests.world.crawls import Crawler
from tests.world.real_proxies import RealProxy, installed, start_squid, start_tinyproxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A machine that is busy is no failure.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("patient", PATIENT)
settings.register_profile("many", PATIENT, max_examples=10_000)
settings.load_profile("patient")

WATCHED = ("crawls", "faults", "inputs")
"""Folders whose crawls must never go out bare, but for tests that are marked ``direct``."""


@pytest.fixture
def make_world(request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    """Start worlds with `World`'s arguments; they end with the test, and say if a crawl went bare."""
    worlds: list[World] = []

    def make(exits: int = 16, **options: Any) -> World:
        world = World(exits, **options)
        world.start()
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        world.stop()
    if request.path.parent.name in WATCHED:
        for world in worlds:
            assert not [v for v in world.site.visits if "proxy-authorization" in v.headers]
            assert request.node.get_closest_marker("direct") or not world.site.direct_visits


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """Return a world of 16 exits."""
    return make_world()


@pytest.fixture
def crawl(tmp_path: Path) -> Iterator[Crawler]:
    """Run crawls with the add-on."""
    crawler = Crawler(tmp_path, {"ADDONS": {"scrapy_session_filter.Addon": 500}})
    yield crawler
    crawler.close()


@pytest.fixture
def plain_crawl(tmp_path: Path) -> Iterator[Crawler]:
    """Run crawls without the add-on."""
    crawler = Crawler(tmp_path, {})
    yield crawler
    crawler.close()


@pytest.fixture
def squid(world: World) -> Iterator[RealProxy]:
    """Run squid as a gateway in front of the world."""
    if installed("squid") is None:
        pytest.skip("squid is not installed")
    with TemporaryDirectory(prefix="squid-") as folder:  # tmp_path is closed to other users
        Path(folder).chmod(0o777)
        proxy = start_squid(Path(folder), world)
        yield proxy
        proxy.stop()


@pytest.fixture
def tinyproxy(world: World) -> Iterator[RealProxy]:
    """Run tinyproxy in front of the world."""
    if installed("tinyproxy") is None:
        pytest.skip("tinyproxy is not installed")
    with TemporaryDirectory(prefix="tinyproxy-") as folder:
        proxy = start_tinyproxy(Path(folder), world)
        yield proxy
        proxy.stop()
