"""The site: an HTTP and HTTPS server that knows its visitors by the address they come from."""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import struct
import time
from collections import Counter
from fnmatch import translate
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING, Any

from loopback.answers import answer_of
from loopback.rules import Limit, Rule, Visit
from loopback.wire import END, Head, RequestProtocol, response

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection

    from loopback.answers import Answer
    from loopback.rules import AnswerLike
    from loopback.shop import Shop


class Site:
    """A shop under any host name, programmable by rules, that remembers every request in `visits`.

    Paths: ``/`` (links to the lists), ``/list/N``, ``/product/N``, ``/page/ANY``, ``/size/BYTES``,
    ``/slow/SECONDS``, ``/echo`` (JSON of the request), ``/redirect?to=URL&status=302``,
    ``/captcha``, ``/login`` (a form with a captcha widget), ``/robots.txt``, ``/answer/NAME`` (any
    answer of `loopback.answers`, or a status), ``/app/N`` (a product that takes JavaScript to be
    seen, with its data at ``/data/N``); everything else is 404.

    Each answer takes ``latency`` seconds, and up to ``jitter`` more. With ``cookies`` each visitor
    that brings none gets a cookie ``visitor=<random>``.
    """

    def __init__(
        self,
        shop: Shop,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        cookies: bool = True,
        keep_visits: bool = True,
    ) -> None:
        self.shop = shop
        self.latency = latency
        self.jitter = jitter
        self.cookies = cookies
        self.keep_visits = keep_visits
        self.visits: list[Visit] = []
        self.visit_count = 0
        self.blocked = 0
        self.answers: Counter[str] = Counter()
        self.exits: Counter[str] = Counter()
        self.direct: Counter[str] = Counter()  # addresses that are no exit
        self.connections: set[asyncio.Transport] = set()
        self.connection_count = 0
        self.exit_of: Callable[[tuple[str, int]], str | None] = lambda _: None
        self.port = 0
        self.tls_port = 0
        self._rules: list[Rule] = []
        self._limit: Limit | None = None
        self._servers: list[asyncio.Server] = []

    async def start(self, tls: ssl.SSLContext | None, port: int = 0) -> None:
        """Listen on ``port`` (0: any free one), and with ``tls`` for https on another."""
        loop = asyncio.get_running_loop()
        plain = await loop.create_server(lambda: _Visitor(self, "http"), "127.0.0.1", port)
        self._servers.append(plain)
        self.port = plain.sockets[0].getsockname()[1]
        if tls is not None:
            secure = await loop.create_server(
                lambda: _Visitor(self, "https"), "127.0.0.1", 0, ssl=tls
            )
            self._servers.append(secure)
            self.tls_port = secure.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop listening and drop every connection."""
        for server in self._servers:
            server.close()
        for transport in list(self.connections):
            transport.abort()

    def on(
        self,
        path: str,
        answer: AnswerLike | Callable[[Visit], AnswerLike | None],
        *,
        exits: Collection[str] | None = None,
        host: str | None = None,
        times: int | None = None,
    ) -> None:
        """Answer visits to ``path`` (a shell pattern, query included) so; later rules come first.

        ``exits`` limits it to visits from these addresses, ``times`` to so many of them. ``answer``
        is an `Answer`, its name, a status, a mapping of fields, or a function of the visit that
        returns one of these (None: not this time).
        """
        rule = Rule(
            answer=answer if callable(answer) else answer_of(answer),
            path=None if path == "*" else re.compile(translate(path)),
            host=None if host is None else re.compile(translate(host)),
            exits=None if exits is None else frozenset(exits),
            left=times,
        )
        self._rules.insert(0, rule)

    def limit(
        self, requests: int, window: float, ban: float, answer: AnswerLike = "too-many"
    ) -> None:
        """Allow an exit ``requests`` per ``window`` seconds; then answer so for ``ban`` seconds."""
        self._limit = Limit(requests, window, ban, answer_of(answer))

    def reset(self) -> None:
        """Forget visits, rules and limits."""
        self._rules.clear()
        self._limit = None
        self.forget_visits()

    def forget_visits(self) -> None:
        """Forget what was recorded, keep the rules."""
        self.visit_count = self.blocked = 0
        for memory in (self.visits, self.answers, self.exits, self.direct):
            memory.clear()

    @property
    def direct_visits(self) -> list[Visit]:
        """Visits that came through no proxy."""
        return [visit for visit in self.visits if visit.direct]

    def stats(self) -> dict[str, Any]:
        """Return counts of visits: all, refused ones, direct ones, by answer and by exit."""
        return {
            "visits": self.visit_count,
            "blocked": self.blocked,
            "direct": self.direct.total(),
            "answers": dict(self.answers),
            "exits": dict(self.exits),
            "connections": self.connection_count,
        }

    def answer(self, visit: Visit) -> Answer:
        """Decide what a visit gets, and record it."""
        answer = self._decide(visit)
        visit.status, visit.answer, visit.block = answer.status, answer.name, answer.block
        self.visit_count += 1
        self.blocked += visit.block
        self.answers[answer.name] += 1
        (self.direct if visit.direct else self.exits)[visit.exit] += 1
        if self.keep_visits:
            self.visits.append(visit)
        return answer

    def _decide(self, visit: Visit) -> Answer:
        for rule in self._rules:
            if rule.matches(visit):
                answer = rule.answer(visit) if callable(rule.answer) else rule.answer
                if answer is not None:
                    if rule.left is not None:
                        rule.left -= 1
                    return answer_of(answer)
        if self._limit is not None and self._limit.refuses(visit.exit, visit.time):
            return self._limit.answer
        return self.shop.answer(visit)


class _Visitor(RequestProtocol):
    """One connection to the site."""

    def __init__(self, site: Site, scheme: str) -> None:
        super().__init__(site.connections)
        self.site = site
        self.scheme = scheme
        self.peer: tuple[str, int] = ("", 0)
        self.number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = transport.get_extra_info("peername")[:2]
        self.site.connection_count += 1
        self.number = self.site.connection_count

    def request(self, head: Head, body: bytes) -> None:
        method, target, _ = head.start
        exit_ = self.site.exit_of(self.peer)
        visit = Visit(
            time=time.monotonic(),
            exit=exit_ or self.peer[0],
            direct=exit_ is None,
            connection=self.number,
            method=method,
            scheme=self.scheme,
            host=head.headers.get("host", ""),
            path=target,
            headers=head.headers,
            body=body,
        )
        answer = self.site.answer(visit)
        delay = answer.delay + self.site.latency + random.uniform(0.0, self.site.jitter)
        if delay:
            asyncio.get_running_loop().call_later(delay, self._send, visit, answer)
        else:
            self._send(visit, answer)

    def _send(self, visit: Visit, answer: Answer) -> None:
        if self.transport.is_closing() or answer.fault == "hang":
            return
        if answer.fault == "close":
            self.transport.close()
            return
        if answer.fault == "reset":
            # lingering for 0 seconds makes the kernel send RST instead of FIN
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
            return
        headers = list(answer.headers.items())
        if self.site.cookies and "visitor=" not in visit.headers.get("cookie", ""):
            headers.append(("Set-Cookie", f"visitor={secrets.token_hex(8)}; Path=/"))
        raw = response(answer.status, headers, answer.body)
        if answer.fault == "cut":
            self.transport.write(raw[: -len(answer.body) // 2])
            self.transport.close()
            return
        if visit.method == "HEAD":
            raw = raw[: raw.index(END) + len(END)]
        self.transport.write(raw)
        if visit.headers.get("connection", "").lower() == "close":
            self.transport.close()
            return
        self.done()
