"""Who pays for an answer: every row of the verdict table, on http and through https tunnels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.crawls.scenery import assert_clean, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawl, Crawler

CAPTCHAS = (
    *("captcha", "captcha-gzip", "captcha-br", "captcha-403", "captcha-redirect"),
    *("challenge", "challenge-503"),
)
REFUSALS = (401, 403, 405, 406, 409, 412, 418, 421, 423, 427, 451, 460, 494, 499, 999)
THROTTLES = (420, 429, 430, 509, 529, "too-many", "busy")
RETRIED_ERRORS = (500, 502, 503, 504, 522, 524, 408)
OTHER_ERRORS = (425, 501, 505, 520, 599)
PAGES = (400, 404, 410, 411, 413, 414, 415, 416, 417, 422, 424, 426, 428, 431)

ROWS = """
import scrapy

class Rows(scrapy.Spider):
    name = "rows"

    async def start(self):
        for host in self.settings["ROWS"]:
            url = f"{self.settings['SCHEME']}://{host}/page/a"
            yield scrapy.Request(url, self.first, errback=self.first_failed)

    def first(self, response):
        yield {"url": response.url, "status": response.status}
        yield response.follow("/page/b", self.second)

    def first_failed(self, failure):
        yield {"url": failure.request.url, "error": type(failure.value).__name__}
        url = failure.request.url.replace("/a", "/b")
        yield scrapy.Request(url, self.second)

    def second(self, response):
        yield {"url": response.url, "second": response.meta["session_filter_session"]}
"""

_LINE = re.compile(r"<GET (\S+)> through session (\w+): (\w+) \((\w+), ([\w-]+)")
_PICK = re.compile(r"<GET (\S+)> goes through session (\w+)")


def verdicts(result: Crawl) -> dict[str, list[tuple[str, str]]]:
    """Kind and strength of every verdict but OK, by URL."""
    found = defaultdict(list)
    for url, _, kind, strength, _ in _LINE.findall(result.log):
        found[url].append((kind, strength))
    return found


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_answers(make_world: Callable[..., World], crawl: Crawler, scheme: str) -> None:
    """Each answer gets its verdict; only a block costs the session; the right one retries."""
    world = make_world(64)
    rows = [*CAPTCHAS, *REFUSALS, *THROTTLES, *RETRIED_ERRORS, *OTHER_ERRORS, *PAGES, "login"]
    host = {row: f"{str(row).replace('-', '')}.example" for row in rows}
    for row in rows:
        world.site.on("/page/a", str(row), host=host[row], times=1)
    settings = through(world, POLICY="until-blocked", ROWS=list(host.values()), SCHEME=scheme)
    result = crawl(ROWS, settings)
    assert_clean(world, result)

    first = {row: f"{scheme}://{host[row]}/page/a" for row in rows}
    said = verdicts(result)
    strong, weak = [("BLOCKED", "strong")], [("BLOCKED", "weak")]
    for row in CAPTCHAS:
        assert said[first[row]] == strong, row
    for row in REFUSALS:
        assert said[first[row]] in (strong, weak), row
    for row in THROTTLES:
        assert [kind for kind, _ in said[first[row]]] == ["THROTTLED"], row
    for row in (*RETRIED_ERRORS, *OTHER_ERRORS):
        assert [kind for kind, _ in said[first[row]]] == ["SITE_ERROR"], row
    for row in (*PAGES, "login"):
        assert first[row] not in said, row

    ours = (*CAPTCHAS, *REFUSALS, *THROTTLES)
    outcome = {item["url"]: item for item in result.items if "second" not in item}
    asked = Counter(visit.url for visit in world.site.visits)
    for row in rows:
        again = row in ours or row in RETRIED_ERRORS
        assert asked[first[row]] == 1 + again, row
        if again or row == "login":
            assert outcome[first[row]]["status"] == 200, row
        else:
            assert outcome[first[row]]["error"] == "HttpError", row
    assert stat(result, "retries") == len(ours)
    assert result.stats["retry/count"] == len(RETRIED_ERRORS)

    blocks = len(CAPTCHAS) + len(REFUSALS)
    assert stat(result, "sessions/retired") == stat(result, "sessions/retired/blocked") == blocks
    assert stat(result, "sessions/rested") == len(THROTTLES)
    assert stat(result, "verdicts/BLOCKED") == blocks
    assert stat(result, "verdicts/THROTTLED") == len(THROTTLES)
    assert stat(result, "verdicts/SITE_ERROR") == len(RETRIED_ERRORS) + len(OTHER_ERRORS)
    assert stat(result, "verdicts/PROXY_ERROR") == 0
    picks = dict(reversed(_PICK.findall(result.log)))  # the first pick of each URL
    second = {item["url"]: item["second"] for item in result.items if "second" in item}
    for row in (*PAGES, *OTHER_ERRORS, "login"):
        assert second[first[row].replace("/a", "/b")] == picks[first[row]], row


@pytest.mark.parametrize("https", [False, True])
def test_broken_connections(world: World, crawl: Crawler, https: bool) -> None:
    """A site that hangs up, or does not resolve or refuses, costs no session its place."""
    faults = ("close", "reset", "cut")
    for n, fault in enumerate(faults):
        world.site.on(f"/page/{n}", fault, times=1)
    pages = urls(world, 3, https=https)
    nowhere = [world.url("/", host, https=https) for host in ("nowhere.invalid", "refused.example")]
    result = crawl([*pages, *nowhere], through(world, RETRY_TIMES=2, CONCURRENT_REQUESTS=1))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert set(result.failures) == set(nowhere)
    assert stat(result, "sessions/retired/blocked") == 0
    kinds = {url: {kind for kind, _ in said} for url, said in verdicts(result).items()}
    # a request on a connection kept alive is repeated by Twisted itself before anybody is told
    assert all(kinds.get(page, {"SITE_ERROR"}) == {"SITE_ERROR"} for page in pages)
    assert kinds[pages[faults.index("cut")]] == {"SITE_ERROR"}
    if not https:  # a refused CONNECT does not say whose fault it is
        for page in nowhere:
            assert kinds[page] == {"SITE_ERROR"}
    assert len([v for v in world.site.visits if v.path.startswith("/page")]) == 6


@pytest.mark.parametrize("https", [False, True])
def test_proxy_faults(make_world: Callable[..., World], crawl: Crawler, https: bool) -> None:
    """A proxy's own fault rests the proxy on every site, is retried by us, and blames no site."""
    world = make_world(14)
    hole, denied, tunnel, error, dead = world.exits[:5]
    proxies = world.proxies()
    world.proxy.spoil([hole], "black-hole")
    world.proxy.spoil([denied], "407")
    world.proxy.spoil([tunnel], "tunnel")
    world.proxy.spoil([error], "error-page")
    world.kill([dead])
    pages = urls(world, 16, https=https) + urls(world, 16, host="other.example", https=https)
    result = crawl(
        pages,
        through(world, PROXIES=proxies, POLICY="round-robin", FIRST_TIMEOUT=3,
                CONCURRENT_REQUESTS=2),
    )  # fmt: skip
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    faulty = 5 if https else 4  # a failing CONNECT is no matter for plain http
    assert stat(result, "verdicts/PROXY_ERROR") == stat(result, "retries")
    assert faulty <= stat(result, "verdicts/PROXY_ERROR") <= 2 * faulty
    assert stat(result, "verdicts/OK") == len(pages)
    assert "retry/count" not in result.stats
    asked = Counter(passage.exit for passage in world.proxy.passages)
    assert all(asked[exit_] <= 2 for exit_ in (hole, denied, error))
    reasons = {name.rpartition("/")[2] for name in result.stats if "/reasons/" in name}
    assert "proxy-refused" in reasons
    assert "proxy-timeout" in reasons
    assert ("proxy-auth" if https else "proxy-error-page") in reasons


def test_a_dead_gateway_blames_no_session_for_ever(world: World, crawl: Crawler) -> None:
    """While the gateway is away requests wait; when it is back every page comes through."""
    pages = urls(world, 20)
    world.site.on("/page/*", {"like": "ok", "delay": 0.05})
    running = crawl.start(
        pages, through(world, POLICY="round-robin", MAX_SESSIONS=4, CONCURRENT_REQUESTS=2)
    )
    while len(running.items()) < 5 and running.process.poll() is None:
        pass
    world.kill_gateway()
    while "PROXY_ERROR" not in running.log() and running.process.poll() is None:
        pass
    world.revive_gateway()
    result = running.wait()
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert stat(result, "verdicts/BLOCKED") == 0


def test_block_statuses_can_be_chosen(world: World, crawl: Crawler) -> None:
    """``[">=400"]`` is the article's rule: every such answer is a block of ours."""
    world.site.on("/page/0", "404", times=1)
    world.site.on("/page/1", "error", times=1)
    pages = urls(world, 2)
    result = crawl(pages, through(world, BLOCK_STATUSES=[">=400"]))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert stat(result, "verdicts/BLOCKED") == stat(result, "sessions/retired/blocked") == 2
    assert "retry/count" not in result.stats


def test_block_markers_prove_a_block(world: World, crawl: Crawler) -> None:
    """A page that holds one of BLOCK_MARKERS is a block, compressed or not."""
    body = "<html><body>Nothing to see here, robot</body></html>"
    world.site.on("/page/0", {"like": "ok", "body": body}, times=1)
    world.site.on("/page/1", {"like": "ok", "body": body, "encoding": "br"}, times=1)
    pages = urls(world, 2)
    result = crawl(pages, through(world, BLOCK_MARKERS=[b"Nothing to see here"]))
    assert_clean(world, result)
    assert [result.pages[page]["title"] for page in pages] == ["Page 0", "Page 1"]
    assert stat(result, "verdicts/BLOCKED") == stat(result, "retries") == 2


def test_compressed_pages_are_decoded_once(world: World, crawl: Crawler) -> None:
    """Bodies are judged decoded and reach the callback decoded, counted once by Scrapy."""
    world.site.on("/page/0", "captcha-gzip", times=1)
    world.site.on("/page/1", "captcha-br", times=1)
    world.site.on("/page/2", {"like": "ok", "encoding": "gzip"})
    pages = urls(world, 3)
    result = crawl(pages, through(world))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert stat(result, "retries") == 2
    assert result.stats["httpcompression/response_count"] == 3
    assert result.pages[pages[2]]["title"] == "A page"


def test_blocks_are_seen_with_compression_switched_off(world: World, crawl: Crawler) -> None:
    """Without HttpCompressionMiddleware a compressed captcha is seen, pages stay as they came."""
    world.site.on("/page/0", "captcha-gzip", times=1)
    world.site.on("/page/1", {"like": "ok", "encoding": "gzip"})
    world.site.on(
        "/page/2", {"like": "ok", "headers": {"Content-Encoding": "gzip"}, "body": "no gzip"}
    )
    pages = urls(world, 3)
    result = crawl(pages, through(world, COMPRESSION_ENABLED=False))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert stat(result, "retries") == 1
    assert "httpcompression/response_count" not in result.stats
    assert result.pages[pages[1]]["title"] is None


def test_a_body_that_cannot_be_decoded_blames_nobody(world: World, crawl: Crawler) -> None:
    """A broken or oversized compressed body ends as in Scrapy, its lease without blame."""
    world.site.on(
        "/page/0", {"like": "ok", "headers": {"Content-Encoding": "gzip"}, "body": "no gzip"}
    )
    world.site.on("/page/1", {"like": "ok", "body": "x" * 3_000_000, "encoding": "gzip"})
    pages = urls(world, 3)
    result = crawl(pages, through(world, DOWNLOAD_MAXSIZE=1_000_000))
    assert result.exit_code == 0
    assert set(result.failures) == set(pages[:2])
    assert set(result.pages) == {pages[2]}
    assert result.stats["watch/leases"] == result.stats["watch/in_flight"] == 0
    assert stat(result, "verdicts/BLOCKED") == stat(result, "sessions/retired") == 0


@pytest.mark.parametrize("own", [True, False])
def test_a_time_out_of_its_own_stays_the_pages(world: World, crawl: Crawler, own: bool) -> None:
    """FIRST_TIMEOUT stands in for Scrapy's default, not for what a request asks for itself."""
    world.site.on("/page/1", {"like": "ok", "delay": 1.5})
    page = {"url": urls(world, 2)[1], "meta": {"download_timeout": 10} if own else {}}
    result = crawl([page], through(world, FIRST_TIMEOUT=0.5, RETRY_TIMES=1))
    assert len(result.pages) == own
    assert stat(result, "verdicts/PROXY_ERROR") == (0 if own else 2)
