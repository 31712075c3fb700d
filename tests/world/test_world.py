"""The loopback world is what the other tests take it for, seen by plain clients and Scrapy."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import brotli  # type: ignore[import-untyped]
import pytest
from loopback import Answer, RemoteWorld, World, launch
from loopback.answers import named

from tests.world.crawls import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.world.crawls import Crawler
    from tests.world.real_proxies import RealProxy


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def fetch(
    url: str,
    proxy: str | None = None,
    *,
    timeout: float = 5,
    method: str = "GET",
    headers: dict[str, str] | None = None,
) -> Reply:
    """Fetch a page as curl would, through a proxy or directly."""
    headers = dict(headers or {})
    target = urlsplit(url)
    path = target._replace(scheme="", netloc="").geturl()
    connection = _connect(url, proxy, timeout)
    try:
        if proxy and target.scheme == "http":
            path = url
            headers.update(_auth(proxy))
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return Reply(reply.status, reply.headers, reply.read())
    finally:
        connection.close()


def _connect(url: str, proxy: str | None, timeout: float) -> http.client.HTTPConnection:
    target, via = urlsplit(url), urlsplit(proxy or url)
    assert via.hostname
    if target.scheme == "http":
        return http.client.HTTPConnection(via.hostname, via.port, timeout=timeout)
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(
        via.hostname, via.port, timeout=timeout, context=context
    )
    if proxy:
        assert target.hostname
        connection.set_tunnel(target.hostname, target.port or 443, headers=_auth(proxy))
    return connection


def _auth(proxy: str) -> dict[str, str]:
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def session(world: World, name: object) -> str:
    """Return the gateway's URL for one session."""
    return world.gateway.format(session=name)


@pytest.mark.parametrize("https", [False, True])
def test_gateway_gives_each_session_its_exit(world: World, https: bool) -> None:
    """A session keeps its exit, other sessions have others, and none counts as direct."""
    url = world.url("/echo", https=https)
    exits = {name: fetch(url, session(world, name)).json()["exit"] for name in range(12)}
    assert all(fetch(url, session(world, n)).json()["exit"] == exit_ for n, exit_ in exits.items())
    assert len(set(exits.values())) > 4
    assert set(exits.values()) <= set(world.exits)
    assert not world.site.direct_visits
    assert {visit.scheme for visit in world.site.visits} == {"https" if https else "http"}


def test_gateway_in_turn(make_world: Callable[..., World]) -> None:
    """With ``in_turn`` as many sessions as exits have as many different exits."""
    world = make_world(8, proxy={"in_turn": True})
    seen = [fetch(world.url("/echo"), session(world, n)).json()["exit"] for n in range(8)]
    assert sorted(seen) == sorted(world.exits)


def test_gateway_sticky_time(make_world: Callable[..., World]) -> None:
    """A sticky session moves to another exit when its time is over."""
    world = make_world(8, proxy={"sticky": 0.3})
    first = fetch(world.url("/echo"), session(world, "a")).json()["exit"]
    time.sleep(0.35)
    assert fetch(world.url("/echo"), session(world, "a")).json()["exit"] != first


def test_list_has_one_exit_per_port(world: World) -> None:
    """A proxy of the list leaves by its own exit, on http and https."""
    proxies = world.proxies()
    assert len(set(proxies)) == len(world.exits)
    for https in (False, True):
        url = world.url("/echo", https=https)
        assert [fetch(url, proxy).json()["exit"] for proxy in proxies] == world.exits


def test_exits_without_addresses_of_their_own(make_world: Callable[..., World]) -> None:
    """Where the machine has one loopback address only, exits are told apart all the same."""
    world = make_world(8, proxy={"bind_exits": False})
    for https in (False, True):
        url = world.url("/echo", https=https)
        assert [fetch(url, proxy).json()["exit"] for proxy in world.proxies()] == world.exits
    assert not world.site.direct_visits
    fetch(world.direct_url("/"))
    assert len(world.site.direct_visits) == 1


def test_subnets(make_world: Callable[..., World]) -> None:
    """Exits lie in as many /24 networks as asked for."""
    world = make_world(30, subnets=5)
    assert len({exit_.rpartition(".")[0] for exit_ in world.exits}) == 5
    assert len(set(world.exits)) == 30


@pytest.mark.parametrize("https", [False, True])
def test_wrong_credentials_are_refused(world: World, https: bool) -> None:
    """Without the right password, or with another user name, the gateway answers 407."""
    address = world.gateway.rpartition("@")[2]
    for proxy in (
        f"http://{address}",
        f"http://user-session-a:wrong@{address}",
        f"http://someone:secret@{address}",
    ):
        if https:
            with pytest.raises(OSError, match="407"):
                fetch(world.url("/echo", https=True), proxy)
        else:
            assert fetch(world.url("/echo"), proxy).status == 407
    assert not world.site.visits
    assert [passage.exit for passage in world.proxy.passages] == ["", "", ""]


def test_credentials_are_recorded_as_they_arrive(make_world: Callable[..., World]) -> None:
    """User name and password are recorded decoded, whatever characters they hold."""
    world = make_world(proxy={"template": "ü@%/#-{session}", "password": "p:@%/#ß"})
    address = world.gateway.rpartition("@")[2]
    proxy = f"http://%C3%BC%40%25%2F%23-abc:p%3A%40%25%2F%23%C3%9F@{address}"
    assert fetch(world.url("/echo"), proxy).status == 200
    passage = world.proxy.passages[-1]
    assert (passage.user, passage.password, passage.session) == ("ü@%/#-abc", "p:@%/#ß", "abc")


def test_proxy_credentials_do_not_reach_the_site(world: World) -> None:
    """The gateway keeps Proxy-Authorization to itself; everything else arrives."""
    fetch(
        world.url("/page/1?a=b"),
        session(world, "a"),
        headers={"User-Agent": "test", "Cookie": "a=1"},
    )
    visit = world.site.visits[-1]
    assert visit.url == "http://shop.example/page/1?a=b"
    assert visit.headers["user-agent"] == "test"
    assert visit.headers["cookie"] == "a=1"
    assert "proxy-authorization" not in visit.headers


def test_direct_visits_are_recorded_as_direct(world: World) -> None:
    """A request without a proxy is seen as such, on http and https."""
    fetch(world.direct_url("/echo"))
    fetch(world.direct_url("/echo", https=True))
    fetch(world.url("/echo"), session(world, "a"))
    assert [visit.direct for visit in world.site.visits] == [True, True, False]
    assert world.stats()["direct"] == 2


def test_bans_hold_for_their_exits_only(world: World) -> None:
    """A banned exit gets the answer of its ban on every page, the others get the page."""
    world.ban(world.exits[:3], "captcha-gzip")
    world.ban(world.exits[3:5], "captcha-redirect")
    replies = [fetch(world.url("/product/1"), proxy) for proxy in world.proxies()]
    assert all(b"robot" in gzip.decompress(reply.body) for reply in replies[:3])
    assert [reply.status for reply in replies] == [200] * 3 + [302] * 2 + [200] * 11
    assert all(b"Chair 1" in reply.body for reply in replies[5:])
    captcha = fetch(world.url("/captcha"), world.proxies()[4])
    assert captcha.status == 200
    assert b"g-recaptcha" in captcha.body
    assert world.stats()["blocked"] == 6


def test_rules(world: World) -> None:
    """The latest rule that matches decides, as often as it may; a function can decide per visit."""
    world.site.on("/page/*", 404)
    world.site.on("/page/1", {"like": "captcha", "encoding": "br"}, times=1)
    world.site.on("/page/2", lambda visit: "forbidden" if "x" in visit.headers else None)
    world.site.on("*", "error", host="other.*")

    def get(path: str, host: str = "shop.example", **headers: str) -> Reply:
        return fetch(world.url(path, host), session(world, "a"), headers=headers)

    first = get("/page/1")
    assert (first.status, first.headers["Content-Encoding"]) == (200, "br")
    assert b"robot" in brotli.decompress(first.body)
    assert get("/page/1").status == 404
    assert get("/page/2", x="1").status == 403
    assert get("/page/2").status == 404
    assert get("/product/2").status == 200
    assert get("/product/2", "other.example").status == 500


def test_rate_limit(world: World) -> None:
    """An exit that comes too often is banned for a while, the others are not."""
    world.site.limit(3, window=60, ban=0.3)
    first, second = world.proxies()[:2]
    replies = [fetch(world.url("/"), first) for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 200, 429]
    assert replies[-1].headers["Retry-After"] == "1"
    assert fetch(world.url("/"), second).status == 200
    time.sleep(0.35)
    assert fetch(world.url("/"), first).status == 200


def test_answers(world: World) -> None:
    """The named answers have the statuses and headers that their names promise."""

    def get(name: str) -> Reply:
        return fetch(world.url(f"/answer/{name}"), session(world, "a"))

    assert get("407").status == 407
    assert get("busy").headers["Retry-After"] == "1"
    assert (get("unavailable").status, get("unavailable").headers["Retry-After"]) == (503, None)
    assert get("captcha-redirect").headers["Location"] == "/captcha"
    assert b'http-equiv="refresh"' in get("captcha-refresh").body
    assert b"Just a moment..." in get("challenge-503").body
    assert b'type="password"' in fetch(world.url("/login"), session(world, "a")).body
    assert len(fetch(world.url("/size/60000"), session(world, "a")).body) == 60000
    redirect = fetch(world.url("/redirect?to=/page/9&status=307"), session(world, "a"))
    assert (redirect.status, redirect.headers["Location"]) == (307, "/page/9")
    assert fetch(world.url("/"), session(world, "a"), method="HEAD").body == b""
    with pytest.raises(ValueError, match="answer = 'nonsense'"):
        named("nonsense")


@pytest.mark.parametrize("https", [False, True])
def test_spoilt_answers(world: World, https: bool) -> None:
    """Closed, reset, cut and hanging connections reach the client as such, through a tunnel too."""

    def get(name: str) -> Reply:
        return fetch(world.url(f"/answer/{name}", https=https), session(world, "a"), timeout=0.5)

    for name in ("close", "reset"):
        with pytest.raises((ConnectionError, ssl.SSLError, http.client.RemoteDisconnected)):
            get(name)
    with pytest.raises((http.client.IncompleteRead, ssl.SSLError)):
        get("cut")
    with pytest.raises(TimeoutError):
        get("hang")
    started = time.monotonic()
    assert fetch(world.url("/slow/0.3", https=https), session(world, "a")).status == 200
    assert time.monotonic() - started >= 0.3


def test_visitor_cookie(world: World) -> None:
    """A visitor without a cookie is given one of its own, and keeps it."""
    given = {fetch(world.url("/"), session(world, n)).headers["Set-Cookie"] for n in range(3)}
    assert len(given) == 3
    cookie = given.pop().partition(";")[0]
    reply = fetch(world.url("/"), session(world, "a"), headers={"Cookie": cookie})
    assert reply.headers["Set-Cookie"] is None


def test_proxy_faults(world: World) -> None:
    """An exit can be a black hole, hang up, deny, fail tunnels, answer itself, be slow."""
    kinds = ("black-hole", "close", "407", "tunnel", "error-page", "slow")
    for exit_, kind in zip(world.exits, kinds, strict=False):
        world.proxy.spoil([exit_], kind, seconds=0.3)
    hole, close, denied, tunnel, error, slow = world.proxies(world.exits[:6])
    plain, secure = world.url("/page/1"), world.url("/page/1", https=True)
    for url in (plain, secure):
        with pytest.raises(TimeoutError):
            fetch(url, hole, timeout=0.3)
        with pytest.raises(ConnectionError):
            fetch(url, close)
        started = time.monotonic()
        assert fetch(url, slow).status == 200
        assert time.monotonic() - started >= 0.3
    for proxy, status in ((denied, 407), (tunnel, 502), (error, 503)):
        with pytest.raises(OSError, match=str(status)):
            fetch(secure, proxy)
    assert fetch(plain, tunnel).status == 200
    assert fetch(plain, error).headers["X-Squid-Error"] == "ERR_CANNOT_FORWARD 0"
    world.proxy.heal()
    assert fetch(secure, error).status == 200


def test_faults_can_pass(world: World) -> None:
    """A fault with ``times`` is over after so many requests."""
    world.proxy.spoil(world.exits, "error-page", times=1)
    proxy = world.proxies()[0]
    assert [fetch(world.url("/"), proxy).status for _ in range(3)] == [503, 200, 200]


def test_killed_proxies_refuse(world: World) -> None:
    """A killed proxy refuses connections, at the old address it serves again when revived."""
    first, second = world.proxies()[:2]
    world.kill(world.exits[:1])
    with pytest.raises(ConnectionRefusedError):
        fetch(world.url("/"), first)
    assert fetch(world.url("/"), second).status == 200
    world.revive(world.exits[:1])
    assert fetch(world.url("/"), first).status == 200
    world.kill_gateway()
    with pytest.raises(ConnectionRefusedError):
        fetch(world.url("/"), session(world, "a"))
    world.revive_gateway()
    assert fetch(world.url("/"), session(world, "a")).status == 200


def test_unreachable_sites(world: World) -> None:
    """A name that does not resolve, or a site that refuses, gives the proxy's error page."""
    for host, error in (("nowhere.invalid", "ERR_DNS_FAIL"), ("refused.example", "ERR_CONNECT")):
        reply = fetch(world.url("/", host), session(world, "a"))
        assert reply.status == 503
        assert error in reply.headers["X-Squid-Error"]
        with pytest.raises(OSError, match="503"):
            fetch(world.url("/", host, https=True), session(world, "a"))


def test_keep_alive(world: World) -> None:
    """One connection serves many requests, of several sessions, each through its own exit."""
    target = urlsplit(session(world, "a"))
    connection = http.client.HTTPConnection(target.hostname or "", target.port)
    exits = []
    for n in (1, 2, 3, 1):
        connection.request("GET", world.url("/echo"), headers=_auth(session(world, n)))
        exits.append(json.loads(connection.getresponse().read())["exit"])
    connection.close()
    assert exits[0] == exits[3] != exits[1]
    assert len({passage.connection for passage in world.proxy.passages}) == 1


def test_request_split_over_packets(world: World) -> None:
    """A request that arrives in pieces is one request, body included."""
    with socket.create_connection(("127.0.0.1", world.site.port)) as sock:
        for piece in (
            b"POST /echo HTT",
            b"P/1.1\r\nHost: a\r\nContent-Le",
            b"ngth: 4\r\n\r\nab",
            b"cd",
        ):
            sock.sendall(piece)
            time.sleep(0.02)
        sock.settimeout(5)
        assert b'"body": "abcd"' in sock.recv(65536)


def test_own_process() -> None:
    """A world in a process of its own takes commands, and tells why one cannot be done."""
    with launch(exits=4, tls=False) as world:
        world.call(
            "ban", exits=world.exits[:1], answer={"status": 403, "body": "no", "block": True}
        )
        proxies = world.call("proxies")
        assert [fetch("http://a.example/", proxy).status for proxy in proxies] == [403] + [200] * 3
        assert world.call("stats")["blocked"] == 1
        assert [visit["exit"] for visit in world.call("visits")] == world.exits
        assert world.call("passages")[0]["target"] == "http://a.example/"
        with pytest.raises(RuntimeError, match="answer = 'nonsense'"):
            world.call("ban", exits=[], answer="nonsense")


def test_command_line() -> None:
    """``python -m loopback`` prints its addresses as one line of JSON, and ends when told to."""
    with subprocess.Popen(
        [sys.executable, "-m", "loopback", '{"exits": 3, "tls": false}'],
        cwd=ROOT / "example_project",
        stdout=subprocess.PIPE,
        env=os.environ,
    ) as process:
        assert process.stdout
        addresses = json.loads(process.stdout.readline())
        assert fetch("http://a.example/echo", addresses["gateway"].format(session=1)).status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_port_in_use(capfd: pytest.CaptureFixture[str]) -> None:
    """A world whose gateway port is taken says so, in this process and in another."""
    with World(2, tls=False) as world:
        with pytest.raises(OSError, match="address already in use"):
            World(2, tls=False, port=world.proxy.port).start()
        with pytest.raises(RuntimeError, match="ended with exit code 1"):
            RemoteWorld(exits=2, tls=False, port=world.proxy.port)
    assert "cannot start" in capfd.readouterr().err


def test_own_errors_are_not_swallowed() -> None:
    """A mistake in a rule's function fails the test that made it."""
    world = World(2, tls=False)
    world.start()
    world.site.on("/", lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConnectionError):
        fetch(world.direct_url("/"))
    with pytest.raises(RuntimeError, match="division by zero"):
        world.stop()


def test_bad_fault() -> None:
    """Unknown faults are refused by name."""
    with pytest.raises(ValueError, match="fault = 'explode'"):
        Answer(fault="explode")
    with World(2, tls=False) as world, pytest.raises(ValueError, match="kind = 'explode'"):
        world.proxy.spoil(world.exits, "explode")


@pytest.mark.parametrize("https", [False, True])
def test_squid_is_a_gateway(world: World, squid: RealProxy, https: bool) -> None:
    """An independent gateway gives each session its exit too, and wants the password."""
    url = world.direct_url("/echo", https=https)
    exits = {name: fetch(url, squid.url.format(session=name)).json()["exit"] for name in "abcabc"}
    assert len(set(exits.values())) == 3
    assert set(exits.values()) <= set(world.exits)
    assert not world.site.direct_visits
    wrong = squid.url.format(session="a").replace("secret", "wrong")
    if https:
        with pytest.raises(OSError, match="407"):
            fetch(url, wrong)
    else:
        assert fetch(url, wrong).status == 407
        named = url.replace("127.0.0.1", "shop.example")
        assert fetch(named, squid.url.format(session="a")).json()["exit"] == exits["a"]


@pytest.mark.parametrize("https", [False, True])
def test_tinyproxy_is_a_proxy(world: World, tinyproxy: RealProxy, https: bool) -> None:
    """An independent single proxy leaves by the first exit."""
    url = world.direct_url("/echo", https=https)
    assert fetch(url, tinyproxy.url).json()["exit"] == world.exits[0]


SPIDER = """
import scrapy

class Shop(scrapy.Spider):
    name = "shop"

    async def start(self):
        meta = {"proxy": self.settings["GATEWAY"].format(session="a")}
        yield scrapy.Request("http://shop.example/", meta=meta)

    def parse(self, response):
        yield {"url": response.url}
        proxy = self.settings["GATEWAY"].format(session="b")
        for link in response.css("a.list, a.product"):
            yield response.follow(link, meta={"proxy": proxy})
"""


def test_plain_scrapy_crawls_the_shop(
    make_world: Callable[..., World], plain_crawl: Crawler
) -> None:
    """A spider given as text walks from the index over the lists to every product."""
    world = make_world(products=50)
    result = plain_crawl(SPIDER, {"GATEWAY": world.gateway})
    assert (result.exit_code, result.reason) == (0, "finished")
    assert len(result.pages) == 0
    assert len(result.items) == result.stats["item_scraped_count"] == 1 + 3 + 50
    assert world.stats()["visits"] == 54
    assert not world.site.direct_visits


def test_plain_scrapy_pages(world: World, plain_crawl: Crawler) -> None:
    """Requests given as data are fetched on http and https, and failures reach the errback."""
    meta = {"proxy": session(world, "a")}
    urls = [world.url("/page/1"), world.url("/page/2", https=True), world.url("/answer/403")]
    result = plain_crawl([{"url": url, "meta": meta} for url in urls] + [world.direct_url("/echo")])
    assert set(result.pages) == {urls[0], urls[1], world.direct_url("/echo")}
    assert result.failures[urls[2]]["error"] == "HttpError"
    assert result.pages[world.direct_url("/echo")]["echo"]["direct"] is True
    assert len(world.site.direct_visits) == 1


def test_a_crawl_can_be_killed(world: World, plain_crawl: Crawler) -> None:
    """A crawl under way shows its items so far, and leaves no end behind when it is killed."""
    world.site.on("/page/*", lambda visit: {"like": "ok", "delay": 0.2})
    urls = [world.direct_url(f"/page/{n}") for n in range(100)]
    running = plain_crawl.start(urls, {"CONCURRENT_REQUESTS": 2})
    deadline = time.monotonic() + 30
    while not running.items() and running.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    result = running.kill()
    assert result.exit_code == -signal.SIGKILL
    assert 0 < len(result.pages) < 100
    assert (result.stats, result.reason) == ({}, "")
