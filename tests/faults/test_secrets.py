"""One crawl with all that Scrapy writes, and canaries for secrets: none of them is found again."""

from __future__ import annotations

import base64
import json
import re
import socket
import stat as modes
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from scrapy_session_filter.holdings import Share
from scrapy_session_filter.session import Lease, Session
from scrapy_session_filter.stores.base import Batch, Claim
from scrapy_session_filter.stores.redis_batch import Part
from scrapy_session_filter.stores.salvage import Found
from tests.crawls.scenery import cookie, stat, through, urls
from tests.faults.test_ends import until
from tests.stores.places import row
from tests.world.crawls import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopback import World

    from tests.world.crawls import Crawler, RunningCrawl

PASSWORD = "c4n4ry:p@ss/%w"
USER = "us3r-c4n4ry"
WILL, WONT, DO, DONT = b"\xfb", b"\xfc", b"\xfd", b"\xfe"
SPIDER = """
import traceback

import scrapy


class Everything(scrapy.Spider):
    name = "everything"

    async def start(self):
        for url in self.settings["URLS"]:
            yield scrapy.Request(url, errback=self.failed)

    def parse(self, response):
        request = response.request
        yield {
            "url": response.url,
            "shown": f"{response!r} {request!r} {request.headers!r} {response.meta!r}",
            "file_urls": [response.urljoin("/page/file") + response.url[-1]],
        }

    def failed(self, failure):
        yield {"shown": f"{failure!r} {failure.value!r} {failure.getTraceback()}",
               "request": f"{failure.request.headers!r} {failure.request.meta!r}"}
"""
CONSOLE = (
    *("est()", "p(vars(engine))", "p(vars(spider))", "p(stats.get_stats())", "p(extensions)"),
    "from scrapy_session_filter import SessionFilterExtension as E",
    "e = crawler.get_extension(E); p(vars(e)); p(e.settings); p(vars(e.pools))",
    "p([(vars(pool), list(pool.sessions.values())) for pool in e.pools])",
    "p([vars(pool.proxies) for pool in e.pools if pool.proxies])",
)


@pytest.mark.parametrize("kind", ["gateway", "list"])
def test_no_secret_is_found_again(
    make_world: Callable[..., World], crawl: Crawler, kind: str
) -> None:
    """Nothing written but the state file holds a password, a user name or a session's cookie."""
    auth = f"{USER}:{PASSWORD}"
    proxy = {"template": f"{USER}-{{session}}", "password": PASSWORD, "list_auth": auth}
    world = make_world(20, proxy=proxy)
    running = crawl.start(SPIDER, everything(world, kind))
    until(running, lambda: len(running.items()) >= 8)
    console = talk(running)
    until(running, lambda: len(running.items()) >= 16)
    running.interrupt()
    result = running.wait()
    assert result.reason == "shutdown"
    assert stat(result, "verdicts/PROXY_ERROR") > 0
    assert stat(result, "retries") > 0
    assert result.stats["file_count"] > 0
    assert result.stats["robotstxt/response_count"] > 0
    (crawl.folder / "console.txt").write_text(console, encoding="utf-8")
    for action in ("list", "report", "show shop.example"):
        said = command(crawl.folder, action)
        assert "shop.example" in said
        (crawl.folder / f"{action}.txt").write_text(said, encoding="utf-8")
    hidden = {*secrets(world)}
    cookies = {cookie(visit).encode() for visit in world.site.visits} - {b""}
    assert cookies  # else there is nothing to look for
    places = set()
    for path in written(crawl.folder):
        content = path.read_bytes()
        places.add(path.relative_to(crawl.folder).parts[0])
        if path.name.startswith("sessions.sqlite"):
            assert modes.S_IMODE(path.stat().st_mode) == 0o600
            assert not [secret for secret in hidden if secret in content], path
        else:
            mine = set() if path.name == "response_headers" else cookies
            assert not [secret for secret in hidden | mine if secret in content], path
    assert places >= {
        "job",
        ".scrapy",
        "files",
        "crawl.log",
        "items.jsonl",
        "end.json",
        "reprs.txt",
    }
    assert "Error caught on signal handler" not in result.log
    assert len(list(crawl.folder.glob("job/requests.queue/**/*"))) > 1
    assert len(list(crawl.folder.glob(".scrapy/cache/**/request_headers"))) > 10
    assert not world.site.direct_visits
    assert not [v for v in world.site.visits if "proxy-authorization" in v.headers]


def test_no_repr_shows_cookies() -> None:
    """Whatever holds a session's cookies for a while does not show them in a console."""
    saved = row(1, cookies=[{"name": "sid", "value": "c4n4ry"}], engine={"state": "c4n4ry"})
    session = Session.from_row(saved, None, now=0.0, wall_offset=0.0)
    data = json.dumps(saved).encode()
    for thing in (
        session,
        Lease("a", session, 0.0, 0, "test"),
        Batch("a", sessions=[saved]),
        Claim(1, {"a"}, [saved]),
        Share(rows=[saved]),
        Found(sessions={("a", "b"): ("c", data)}),
        Part("a", values=[data]),
    ):
        assert "c4n4ry" not in repr(thing), thing


def everything(world: World, kind: str) -> dict[str, object]:
    """Settings of a crawl that retries, is redirected, caches, and keeps files and its queue."""
    world.site.on("/page/?", "forbidden", times=3)
    world.site.on("/page/1?", "error", times=3)
    world.site.on("/page/2?", "close", times=2)
    world.site.on("/page/3?", "captcha-redirect", times=2)
    world.site.on("/page/4*", {"like": "ok", "delay": 0.5})
    world.site.on("/page/5*", {"like": "ok", "delay": 0.5})
    world.proxy.spoil(world.exits[:2], "407")
    world.proxy.spoil(world.exits[2:4], "tunnel")
    world.proxy.spoil(world.exits[4:5], "error-page")
    if kind == "gateway":
        address = world.gateway.rpartition("@")[2]
        proxy = f"http://{USER}-{{session}}:{quote(PASSWORD, safe='')}@{address}"
        where: dict[str, object] = {"PROXY": proxy}
    else:
        addresses = [url.rpartition("@")[2] for url in world.proxies()]
        where = {"PROXIES": [f"http://{USER}:{quote(PASSWORD)}@{a}" for a in addresses]}
        world.kill(world.exits[5:7])
    pages = urls(world, 40)
    pages[1::2] = urls(world, 40, https=True)[1::2]
    pages += [world.url(f"/redirect?to=https://shop.example/page/r{n}") for n in range(5)]
    pages += [*urls(world, 60)[40:], "http://refused.example/page/1", "http://no.invalid/page/1"]
    return through(
        world, **where, STORE="sqlite:", JOBDIR="job", HTTPCACHE_ENABLED=True, URLS=pages,
        HTTPCACHE_DIR="cache", CONCURRENT_REQUESTS=8, ROBOTSTXT_OBEY=True, FILES_STORE="files",
        ITEM_PIPELINES={"scrapy.pipelines.files.FilesPipeline": 1}, TELNETCONSOLE_ENABLED=True,
        TELNETCONSOLE_PORT=[], TELNETCONSOLE_PASSWORD="telnet", POLICY="random",
        EXTENSIONS={"tests.faults.reprs.Reprs": 2}, SAVE_INTERVAL=0.3,
    )  # fmt: skip


def secrets(world: World) -> Iterator[bytes]:
    """Yield what must not be found: plain, percent-encoded, and in base64 at any offset."""
    for text in (PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), "c4n4ry", USER):
        yield text.encode()
    for text in (PASSWORD, USER):
        for shift in range(3):
            encoded = base64.b64encode(f"{'x' * shift}{text}".encode())
            yield encoded[4:-4]
    for user in {passage.user for passage in world.proxy.passages if passage.user}:
        yield base64.b64encode(f"{user}:{PASSWORD}".encode())


def written(folder: Path) -> Iterator[Path]:
    """Yield what the crawl and the commands have written; not the settings they were given."""
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".py":
            yield path


def talk(running: RunningCrawl) -> str:
    """Look around in the telnet console of a crawl; returns all it said."""
    port = re.search(r"Telnet console listening on 127\.0\.0\.1:(\d+)", running.log())
    assert port
    said = b""
    with socket.create_connection(("127.0.0.1", int(port[1])), timeout=20) as line:
        for prompt, answer in (
            (b"Username:", "scrapy"),
            (b"Password:", "telnet"),
            *((b">>> ", text) for text in (*CONSOLE, "print('the', 'end')")),
        ):
            said += read_until(line, prompt)
            line.sendall(answer.encode() + b"\r\n")
        said += read_until(line, b"the end")
    return said.decode("utf-8", "replace")


def read_until(line: socket.socket, end: bytes) -> bytes:
    """Read until something is said; every option the server offers is taken, none given."""
    said = b""
    while end not in said:
        part = line.recv(65536)
        assert part, said[-2000:]
        for offer, option in re.findall(rb"\xff([\xfb-\xfe])(.)", part, re.DOTALL):
            reply = {WILL: DO, WONT: DONT}.get(offer, WONT)
            line.sendall(b"\xff" + reply + option)
        said += part
    return said


def command(folder: Path, action: str) -> str:
    """Run ``scrapy sessions`` in the project; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "scrapy", "sessions", *action.split()],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
