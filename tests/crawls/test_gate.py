"""Nothing that should carry a session goes out bare, and no credential stays behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.crawls.scenery import assert_clean, stat, through

if TYPE_CHECKING:
    from loopback import World

    from tests.world.crawls import Crawler


def test_what_cannot_carry_a_session_is_refused(world: World, crawl: Crawler) -> None:
    """Empty proxies, own jars and browser contexts, and schemes that ignore proxies are refused."""
    page = world.direct_url("/page/{}").format
    (crawl.folder / "local.html").write_text("local")
    refused: list[dict[str, Any]] = [
        {"url": page(0), "meta": {"proxy": None}},
        {"url": page(1), "meta": {"proxy": ""}},
        {"url": page(2), "meta": {"cookiejar": 1}},
        {"url": page(3), "meta": {"playwright_context": "mine"}},
        {"url": f"ftp://127.0.0.1:{world.site.port}/page/4"},
        {"url": (crawl.folder / "local.html").as_uri()},
        {"url": "s3://bucket/key"},
    ]
    fine = [{"url": page(7)}, {"url": "data:text/plain,hello"}]
    settings = through(world, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
    result = crawl([*refused, *fine], settings)
    assert_clean(world, result)
    assert set(result.failures) == {request["url"] for request in refused}
    for request in refused:
        failure = result.failures[request["url"]]
        assert failure["error"] == "IgnoredRefused", failure
        assert '"session_filter": False' in failure["message"]
    assert set(result.pages) == {request["url"] for request in fine}
    assert [visit.path for visit in world.site.visits] == ["/page/7"]
    assert stat(result, "refused") == len(refused)


@pytest.mark.direct
def test_opt_out_and_own_proxies_are_left_alone(world: World, crawl: Crawler) -> None:
    """``session_filter`` False goes as Scrapy sends it, an own proxy is kept; both are counted."""
    own = world.gateway.replace("{session}", "mine")
    direct = world.direct_url("/page/0")
    requests = [
        {"url": direct, "meta": {"session_filter": False, "cookiejar": 1}},
        {"url": world.url("/page/1"), "meta": {"proxy": own}},
        {"url": world.url("/page/2", https=True), "meta": {"proxy": own, "cookiejar": 2}},
        world.url("/page/3"),
    ]
    result = crawl(requests, through(world))
    assert result.exit_code == 0
    assert len(result.pages) == 4
    assert [visit.url for visit in world.site.direct_visits] == [
        f"http://127.0.0.1:{world.site.port}/page/0"
    ]
    assert [p.session for p in world.proxy.passages].count("mine") == 2
    assert stat(result, "opted_out") == 1
    assert stat(result, "own_proxy") == 2
    assert stat(result, "requests") == 1
    assert result.pages[direct]["session"] is None


MEDDLER = """
from scrapy.exceptions import IgnoreRequest

class Meddler:
    def process_request(self, request):
        what = request.url.rpartition("/")[2]
        if what == "bare":
            request.meta["proxy"] = None
        elif what == "popped":
            request.meta.pop("proxy")
            request.headers.pop("Proxy-Authorization", None)
        elif what == "other":
            request.meta["proxy"] = "http://127.0.0.1:9"
        elif what == "credentials":
            request.headers["Proxy-Authorization"] = b"Basic eDp5"
        elif what == "jar":
            request.meta["cookiejar"] = "other"
        elif what == "dropped":
            raise IgnoreRequest("not wanted")
        elif what == "broken":
            raise ZeroDivisionError
        elif what == "replaced" and "again" not in request.meta:
            return request.replace(meta={**request.meta, "again": 1}, dont_filter=True)
        elif what == "same" and "again" not in request.meta:
            request.meta["again"] = 1
            request.dont_filter = True
            return request
"""


def test_meddling_middlewares_cannot_bare_a_request(world: World, crawl: Crawler) -> None:
    """A request whose proxy or jar another middleware changed stops at the gate; leases all end."""
    (crawl.folder / "meddler.py").write_text(MEDDLER)
    stopped = ["bare", "popped", "other", "credentials", "jar"]
    others = ["dropped", "broken", "replaced", "same"]
    pages = {what: world.direct_url(f"/page/{what}") for what in (*stopped, *others)}
    result = crawl(
        list(pages.values()),
        through(world, DOWNLOADER_MIDDLEWARES={"meddler.Meddler": 900}),
    )
    assert not world.site.direct_visits
    for what in stopped:
        assert result.failures[pages[what]]["error"] == "IgnoredRefused"
    assert result.failures[pages["dropped"]]["error"] == "IgnoreRequest"
    assert result.failures[pages["broken"]]["error"] == "ZeroDivisionError"
    assert set(result.pages) == {pages["replaced"], pages["same"]}
    assert stat(result, "refused") == len(stopped)
    assert result.stats["watch/leases"] == 0
    assert result.stats["watch/in_flight"] == result.stats["watch/session_in_flight"] == 0
    assert stat(result, "sessions/retired") == 0


ANSWERS = """
from scrapy.exceptions import IgnoreRequest
from scrapy.http import HtmlResponse

class Answers:
    def process_response(self, request, response):
        what = request.url.rpartition("/")[2]
        if what == "same" and "again" not in request.meta:
            request.meta["again"] = 1
            request.dont_filter = True
            return request
        if what == "dropped":
            raise IgnoreRequest("not wanted")
        if what == "broken":
            raise ZeroDivisionError
        return response

    def process_exception(self, request, exception):
        if request.url.endswith("/answered"):
            return HtmlResponse(request.url, body=b"instead")
"""


def test_leases_end_whatever_others_do_with_answers(world: World, crawl: Crawler) -> None:
    """Answers that others drop, break, replace or send round again leave no lease behind."""
    (crawl.folder / "answers.py").write_text(ANSWERS)
    world.site.on("/page/answered", "close")
    pages = {w: world.url(f"/page/{w}") for w in ("same", "dropped", "broken", "answered", "fine")}
    result = crawl(
        list(pages.values()), through(world, DOWNLOADER_MIDDLEWARES={"answers.Answers": 900})
    )
    assert result.exit_code == 0
    assert set(result.pages) == {pages["same"], pages["fine"], pages["answered"]}
    assert set(result.failures) == {pages["dropped"], pages["broken"]}
    assert result.stats["watch/leases"] == 0
    assert result.stats["watch/in_flight"] == result.stats["watch/session_in_flight"] == 0


@pytest.mark.direct
def test_environment_proxies_are_not_used(world: World, crawl: Crawler) -> None:
    """``http_proxy`` of the environment never takes the place of a session's proxy, or of none."""
    env = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    result = crawl([world.url("/page/0")], through(world), env=env)
    assert_clean(world, result)
    assert len(result.pages) == 1
    result = crawl([world.direct_url("/page/1")], through(world, PROXY="direct"), env=env)
    assert len(result.pages) == 1
    assert [visit.path for visit in world.site.direct_visits] == ["/page/1"]


def test_the_components_need_the_extension(world: World, plain_crawl: Crawler) -> None:
    """Middlewares without the extension stop the crawl at its start; nothing goes out."""
    middlewares = {
        "scrapy_session_filter.SessionFilterMiddleware": 650,
        "scrapy_session_filter.ProxyGate": 995,
    }
    settings = {"SESSION_FILTER_PROXY": world.gateway, "DOWNLOADER_MIDDLEWARES": middlewares}
    result = plain_crawl([world.direct_url("/page/0")], settings)
    assert result.exit_code != 0
    assert "EXTENSIONS" in result.log
    assert not world.site.visits
    everything = {"EXTENSIONS": {"scrapy_session_filter.SessionFilterExtension": 500}}
    result = plain_crawl([world.url("/page/1")], {**settings, **everything})
    assert len(result.pages) == 1
    assert not world.site.direct_visits


@pytest.mark.direct
def test_disabled_means_plain_scrapy(world: World, crawl: Crawler) -> None:
    """With ENABLED off every component stays out, although the add-on is there."""
    settings = {"SESSION_FILTER_ENABLED": False, "SESSION_FILTER_PROXY": world.gateway}
    result = crawl([world.direct_url("/page/0")], settings)
    assert result.exit_code == 0
    assert len(result.pages) == len(world.site.direct_visits) == 1
    assert not [name for name in result.stats if name.startswith("session_filter")]


@pytest.mark.parametrize("gap", [0, 0.2])
def test_an_object_that_is_yielded_again_and_again(
    world: World, crawl: Crawler, gap: float
) -> None:
    """What is queued in the downloader keeps its session; Scrapy itself loses count of the object."""
    spider = f"""
    import asyncio

    import scrapy

    class Again(scrapy.Spider):
        name = "again"

        async def start(self):
            request = scrapy.Request("{world.direct_url("/page/1")}", dont_filter=True)
            for _ in range(6):
                yield request
                await asyncio.sleep({gap})

        def parse(self, response):
            yield {{"session": response.meta["session_filter_session"]}}
    """
    settings = through(
        world, PROXIES=world.proxies()[:2], POLICY="random", CONCURRENCY=1, DELAY=0.7,
        DOWNLOAD_DELAY=0.3,
    )  # fmt: skip
    result = crawl(spider, settings)
    assert result.exit_code == 0
    assert not world.site.direct_visits
    assert result.items
    assert all(item["session"] for item in result.items)
    assert result.stats["watch/leases"] == result.stats["watch/in_flight"] == 0
