"""A site behind a load balancer that bans by address, and proxies with an exit each; real programs.

HAProxy counts requests per source address in a stick table and refuses what is over the limit; nginx
behind it has the pages. One tinyproxy listens on every loopback address, and leaves each request
through the address that it came in by (``BindSame``): 127.20.0.1 to 127.20.x.y are so many proxies.
"""

from __future__ import annotations

import csv
import io
import random
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

    from benchmarks.balancer.layouts import Layout

PROGRAMS = ("haproxy", "nginx", "tinyproxy")

_NGINX = """
daemon off;
master_process off;
worker_processes 1;
error_log {folder}/nginx.log crit;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        default_type text/html;
        location / {{ return 200 "<html><title>Page</title><h1>$uri</h1>{filling}</html>"; }}
    }}
}}
"""

_HAPROXY = """
global
    stats socket {folder}/stats mode 600
    maxconn 4096
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    option http-keep-alive
frontend site
    bind 127.0.0.1:{port}
    tcp-request inspect-delay {latency}ms
    tcp-request content accept if WAIT_END
    http-request deny deny_status 403 if {{ src -f {folder}/banned.lst }}
    stick-table type ip size 100k expire {remember}s store http_req_rate({window}s)
{rules}
    default_backend pages
backend bans
    stick-table type ip size 100k expire {ban}s
backend pages
    server nginx 127.0.0.1:{nginx}
"""


class Site:
    """The running programs of one layout; ``with Site(layout) as site:``.

    ``url`` is the site's, ``proxies`` are those of the list, shuffled. ``seed`` decides which work.
    """

    def __init__(self, layout: Layout, seed: int = 1) -> None:
        self.layout = layout
        addresses = _addresses(layout)
        good = random.Random(seed).sample(addresses, layout.good)
        self._banned = sorted(set(addresses) - set(good))
        self._site, self._pages, self._proxy = _free_ports(3)
        self.url = f"http://127.0.0.1:{self._site}"
        self.proxies = [f"http://{address}:{self._proxy}" for address in addresses]
        random.Random(seed + 1).shuffle(self.proxies)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="balancer-")))
            self._write("banned.lst", "".join(f"{address}\n" for address in self._banned))
            nginx = self._write("nginx.conf", self._nginx())
            haproxy = self._write("haproxy.conf", self._haproxy())
            tinyproxy = self._write("tinyproxy.conf", self._tinyproxy())
            self._start("nginx", ["-c", str(nginx)], self._pages)
            self._start("haproxy", ["-f", str(haproxy)], self._site)
            self._start("tinyproxy", ["-d", "-c", str(tinyproxy)], self._proxy)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def requests(self) -> int:
        """Return how many requests have come to the site, by its own count."""
        return int(self._counts()["req_tot"])

    def refused(self) -> int:
        """Return how many of them were refused."""
        return int(self._counts()["hrsp_4xx"])

    def _counts(self) -> dict[str, str]:
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(self._folder / "stats"))
            stats.sendall(b"show stat\n")
            with stats.makefile(encoding="utf-8") as answer:
                rows = csv.DictReader(io.StringIO(answer.read().lstrip("# ")))
        return next(row for row in rows if row["svname"] == "FRONTEND" and row["pxname"] == "site")

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def _nginx(self) -> str:
        filling = "<p>Lorem ipsum dolor sit amet.</p>" * 40
        return _NGINX.format(folder=self._folder, port=self._pages, filling=filling)

    def _haproxy(self) -> str:
        layout = self.layout
        return _HAPROXY.format(
            folder=self._folder,
            port=self._site,
            nginx=self._pages,
            latency=max(1, round(1000 * layout.latency)),
            window=layout.window,
            remember=10 * layout.window,
            ban=max(1, layout.ban),
            rules="\n".join(f"    http-request {rule}" for rule in _rules(layout)),
        )

    def _tinyproxy(self) -> str:
        lines = [
            f"Port {self._proxy}",
            "Listen 0.0.0.0",
            "BindSame yes",
            *("Allow 127.0.0.0/8", "DisableViaHeader Yes", "MaxClients 1000", "Timeout 30"),
            *("LogLevel Critical", f'LogFile "{self._folder / "tinyproxy.log"}"'),
        ]
        return "\n".join(lines) + "\n"

    def _start(self, name: str, arguments: list[str], port: int) -> None:
        program = program_of(name)
        with (self._folder / f"{name}.out").open("wb") as log:
            process = subprocess.Popen([program, *arguments], stdout=log, stderr=subprocess.STDOUT)
        self._stack.callback(_end, process)
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:  # noqa: PERF203 - not yet listening
                time.sleep(0.05)
            else:
                return
        said = (self._folder / f"{name}.out").read_text(errors="replace")
        msg = f"{name} did not start: {said[-2000:]}"
        raise RuntimeError(msg)


def program_of(name: str) -> str:
    """Return the path of a program; some lie where only root looks."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        msg = f"{name} is not installed; on Debian: apt-get install {' '.join(PROGRAMS)}"
        raise SystemExit(msg)
    return path


def _rules(layout: Layout) -> list[str]:
    deny = f"deny deny_status {layout.status}"
    if layout.retry_after is not None:
        deny += f" hdr Retry-After {layout.retry_after}"
    over = f"{{ sc_http_req_rate(0) gt {layout.limit} }}"
    banned = "{ src,in_table(bans) }"
    if not layout.ban:
        if layout.prolongs:
            return ["track-sc0 src", f"{deny} if {over}"]
        looked_up = f"{{ src_http_req_rate ge {layout.limit} }}"
        return [f"{deny} if {looked_up}", "track-sc0 src"]
    rules = [
        f"{deny} if {banned}",
        "track-sc0 src",
        f"track-sc1 src table bans if {over}",
        f"{deny} if {over}",
    ]
    if layout.prolongs:  # to be tracked is what puts off the end of an entry
        rules.insert(0, f"track-sc1 src table bans if {banned}")
    return rules


def _addresses(layout: Layout) -> list[str]:
    """Return the proxies' addresses, as many in each subnet."""
    return [
        f"127.{20 + number // layout.subnets // 250}.{number % layout.subnets}."
        f"{number // layout.subnets % 250 + 1}"
        for number in range(layout.proxies)
    ]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(20)
