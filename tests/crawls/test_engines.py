"""Each request goes to the binding of its download engine; without one nothing goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler

from scrapy_session_filter.engines import HttpBinding
from tests.crawls.scenery import assert_clean, stat, through, urls

if TYPE_CHECKING:
    from loopback import World
    from scrapy import Request
    from scrapy.crawler import Crawler as ScrapyCrawler
    from scrapy.http import Response

    from tests.world.crawls import Crawler


class ForeignHandler:
    """A download handler that nobody knows; it happens to honour proxies."""

    lazy = True

    def __init__(self, crawler: ScrapyCrawler) -> None:
        self._handler = HTTP11DownloadHandler(crawler)

    @classmethod
    def from_crawler(cls, crawler: ScrapyCrawler) -> ForeignHandler:
        return cls(crawler)

    async def download_request(self, request: Request) -> Response:
        return await self._handler.download_request(request)

    async def close(self) -> None:
        await self._handler.close()


class ForeignBinding(HttpBinding):
    """A binding for it."""

    handlers = ("tests.crawls.test_engines.ForeignHandler",)


FOREIGN = {"http": "tests.crawls.test_engines.ForeignHandler"}


def test_unknown_handlers_are_refused(world: World, crawl: Crawler) -> None:
    """A handler that may ignore the session gets nothing, and the message says what to do."""
    requests = urls(world, 2)
    result = crawl(requests, through(world, DOWNLOAD_HANDLERS=FOREIGN))
    assert_clean(world, result)
    assert not world.site.visits
    assert stat(result, "refused") == 2
    for failure in result.failures.values():
        assert failure["error"] == "IgnoredRefused"
        assert "SESSION_FILTER_ENGINES" in failure["message"]
        assert "ForeignHandler" in failure["message"]


def test_a_binding_can_be_added(world: World, crawl: Crawler) -> None:
    """With a binding named in SESSION_FILTER_ENGINES the same handler carries sessions."""
    binding = {"tests.crawls.test_engines.ForeignBinding": 500}
    settings = through(
        world, DOWNLOAD_HANDLERS=FOREIGN, SESSION_FILTER_ENGINES=binding, MAX_SESSIONS=1
    )
    requests = urls(world, 4)
    result = crawl(requests, settings)
    assert_clean(world, result)
    assert set(result.pages) == set(requests)
    assert all(visit.exit in world.exits for visit in world.site.visits)


def test_browser_requests_without_a_browser_are_refused(world: World, crawl: Crawler) -> None:
    """Where scrapy-playwright's handler is not set up, meta ``playwright`` would go out bare."""
    url = world.direct_url("/page/0")
    result = crawl([{"url": url, "meta": {"playwright": True}}], through(world))
    assert_clean(world, result)
    assert not world.site.visits
    assert "DOWNLOAD_HANDLERS['http']" in result.failures[url]["message"]
