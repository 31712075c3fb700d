"""The proxies: one gateway whose user names are sessions, and a list with one port per exit."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
import zlib
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loopback.forwarding import Tunnel, Upstream
from loopback.wire import Head, RequestProtocol, response

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    Address = tuple[str, int]

FAULTS = ("black-hole", "close", "407", "tunnel", "error-page", "slow")


@dataclass(slots=True)
class Fault:
    """What is wrong with an exit, ``left`` times or until it is healed.

    ``black-hole`` takes requests and never answers, ``close`` hangs up, ``407`` denies any
    password, ``tunnel`` fails CONNECT with a 502, ``error-page`` answers with the proxy's own 503,
    ``slow`` waits ``seconds`` before it forwards.
    """

    kind: str
    seconds: float = 1.0
    left: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            msg = f"kind = {self.kind!r}: expected one of {FAULTS}"
            raise ValueError(msg)


@dataclass(slots=True)
class Passage:
    """One request (or CONNECT) as the proxy saw it; ``exit`` is empty where it was turned away.

    ``user`` and ``password`` are as they arrived, ``session`` what the gateway read from the user
    name. ``connection`` numbers the client's TCP connections.
    """

    time: float
    connection: int
    method: str
    target: str
    user: str | None
    password: str | None
    session: str | None
    exit: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)


class Proxy:
    """Forwards to ``resolve(host, port, tls)`` from one of its exits; records all in `passages`.

    At the gateway a session id always leads to the same exit: by its hash, or with ``in_turn`` in
    the order in which sessions appear; with ``sticky`` only so many seconds, then to the next exit.
    The user name must be ``template`` with ``{session}`` filled in; ``password`` None accepts any.
    Ports of the list take ``list_auth`` ("user:password"), or everybody if None.
    """

    def __init__(
        self,
        exits: Sequence[str],
        resolve: Callable[[str, int, bool], Address | None],
        *,
        template: str = "user-session-{session}",
        password: str | None = "secret",
        sticky: float | None = None,
        in_turn: bool = False,
        list_auth: str | None = None,
        keep_passages: bool = True,
        bind_exits: bool = True,
    ) -> None:
        self.exits = list(exits)
        self.resolve = resolve
        self.password = password
        self.sticky = sticky
        self.list_auth = list_auth
        self.keep_passages = keep_passages
        self.bind_exits = bind_exits
        self.passages: list[Passage] = []
        self.passage_count = 0
        self.connections: set[asyncio.Transport] = set()
        self.connection_count = 0
        self.exit_by_port: dict[int, str] = {}  # of our own outgoing connections
        self.port = 0
        self.list_addresses: dict[str, Address] = {}
        self._user = re.compile(re.escape(template).replace(r"\{session\}", "(?P<session>.+)"))
        self._turns: dict[str, int] | None = {} if in_turn else None
        self._first_seen: dict[str, float] = {}
        self._faults: dict[str, Fault] = {}
        self._gateway: asyncio.Server | None = None
        self._list: dict[str, asyncio.Server] = {}
        self._idle: defaultdict[tuple[str, Address], list[Upstream]] = defaultdict(list)

    async def start(self, port: int = 0) -> None:
        """Open the gateway on ``port`` (0: any free one)."""
        loop = asyncio.get_running_loop()
        self._gateway = await loop.create_server(
            lambda: _Client(self, None), "127.0.0.1", port, backlog=1000
        )
        self.port = self._gateway.sockets[0].getsockname()[1]

    async def open_list(self, exits: Collection[str]) -> None:
        """Open (again) one port for each of these exits, at the exit's address if it has one."""
        loop = asyncio.get_running_loop()
        for exit_ in exits:
            host, port = self.list_addresses.get(
                exit_, (exit_ if self.bind_exits else "127.0.0.1", 0)
            )
            server = await loop.create_server(lambda e=exit_: _Client(self, e), host, port)  # type: ignore[misc]
            self.list_addresses[exit_] = server.sockets[0].getsockname()[:2]
            self._list[exit_] = server

    def close_list(self, exits: Collection[str]) -> None:
        """Close the ports of these exits: the next connection is refused."""
        for exit_ in exits:
            if server := self._list.pop(exit_, None):
                server.close()

    def close_gateway(self) -> None:
        """Close the gateway's port, and every connection to any proxy."""
        if self._gateway is not None:
            self._gateway.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Cut every open connection, on both sides."""
        for transport in list(self.connections):
            transport.abort()

    def stop(self) -> None:
        """Stop listening and drop every connection."""
        self.close_list(list(self._list))
        self.close_gateway()

    def spoil(
        self,
        exits: Collection[str],
        kind: str,
        *,
        seconds: float = 1.0,
        times: int | None = None,
    ) -> None:
        """Give exits a `Fault`."""
        for exit_ in exits:
            self._faults[exit_] = Fault(kind, seconds, times)

    def heal(self, exits: Collection[str] | None = None) -> None:
        """Take the faults of these exits away, or all."""
        for exit_ in list(self._faults) if exits is None else exits:
            self._faults.pop(exit_, None)

    def fault_of(self, exit_: str, *, tunnel: bool) -> Fault | None:
        """Return what is wrong with an exit for this request, and count it."""
        fault = self._faults.get(exit_)
        if fault is None or fault.left == 0 or (fault.kind == "tunnel" and not tunnel):
            return None
        if fault.left is not None:
            fault.left -= 1
        return fault

    def admit(
        self, credentials: tuple[str, str] | None, exit_: str | None
    ) -> tuple[str, str | None]:
        """Return exit and session of a request; the exit is empty if it is turned away.

        ``exit_`` is that of the list's port, None at the gateway.
        """
        if exit_ is not None:
            known = self.list_auth is None or ":".join(credentials or ()) == self.list_auth
            return (exit_ if known else ""), None
        user, password = credentials or ("", "")
        match = self._user.fullmatch(user)
        if match is None or (self.password is not None and password != self.password):
            return "", None
        session = match["session"]
        return self._exit_of_session(session), session

    def _exit_of_session(self, session: str) -> str:
        if self._turns is None:
            start = zlib.crc32(session.encode())
        else:
            start = self._turns.setdefault(session, len(self._turns))
        hops = 0
        if self.sticky is not None:
            now = time.monotonic()
            hops = int((now - self._first_seen.setdefault(session, now)) / self.sticky)
        return self.exits[(start + hops) % len(self.exits)]

    def borrow(self, exit_: str, address: Address) -> Upstream | None:
        """Take an idle connection from an exit to an address."""
        idle = self._idle[exit_, address]
        while idle:
            upstream = idle.pop()
            if not upstream.transport.is_closing():
                return upstream
        return None

    def give_back(self, upstream: Upstream) -> None:
        """Keep a connection for the next request from the same exit."""
        self._idle[upstream.key].append(upstream)

    async def connect(
        self, protocol: Callable[[], asyncio.Protocol], exit_: str, address: Address
    ) -> asyncio.Protocol:
        """Connect to an address from an exit."""
        local = (exit_, 0) if self.bind_exits else None
        transport, made = await asyncio.get_running_loop().create_connection(
            protocol, *address, local_addr=local
        )
        self.exit_by_port[transport.get_extra_info("sockname")[1]] = exit_
        return made


class _Client(RequestProtocol):
    """One connection of a client to the gateway (``exit_`` None) or to a port of the list."""

    def __init__(self, proxy: Proxy, exit_: str | None) -> None:
        super().__init__(proxy.connections)
        self.proxy = proxy
        self.exit = exit_
        self.number = 0
        self.other: asyncio.Transport | None = None  # where our bytes go, or come from
        self.tunnel = False
        self.work: asyncio.Task[None] | asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.proxy.connection_count += 1
        self.number = self.proxy.connection_count

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.work is not None:
            self.work.cancel()
        if self.other is not None:
            self.other.close()

    def data_received(self, data: bytes) -> None:
        if self.tunnel and self.other is not None:
            self.other.write(data)
        else:
            super().data_received(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.resume_reading()

    def request(self, head: Head, body: bytes) -> None:
        proxy = self.proxy
        method, target, _ = head.start
        credentials = _credentials(head.headers.pop("proxy-authorization", ""))
        exit_, session = proxy.admit(credentials, self.exit)
        proxy.passage_count += 1
        if proxy.keep_passages:
            user, password = credentials or (None, None)
            now = time.monotonic()
            passage = Passage(now, self.number, method, target, user, password, session, exit_)
            proxy.passages.append(passage)
        if not exit_:
            self.refuse(407, "proxy authentication required")
            return
        fault = proxy.fault_of(exit_, tunnel=method == "CONNECT")
        if fault is None:
            self._forward(head, body, exit_)
        elif fault.kind == "slow":
            loop = asyncio.get_running_loop()
            self.work = loop.call_later(fault.seconds, self._forward, head, body, exit_)
        elif fault.kind == "close":
            self.transport.close()
        elif fault.kind == "407":
            self.refuse(407, "proxy authentication required")
        elif fault.kind == "tunnel":
            self.refuse(502, "tunnel failed")
        elif fault.kind == "error-page":
            self.refuse(503, "ERR_CANNOT_FORWARD 0")

    def refuse(self, status: int, error: str) -> None:
        """Answer with an error page of the proxy's own, in the manner of squid."""
        headers = [
            ("Server", "squid/5.7"),
            ("Content-Type", "text/html;charset=utf-8"),
            ("X-Squid-Error", "ERR_CACHE_ACCESS_DENIED 0" if status == 407 else error),
            ("Via", "1.1 loopback (squid/5.7)"),
        ]
        if status == 407:
            headers.append(("Proxy-Authenticate", 'Basic realm="loopback"'))
        body = (
            "<html><head><title>ERROR: The requested URL could not be retrieved</title></head>"
            f"<body><h1>ERROR</h1><p>{error}</p><hr>Generated by loopback (squid/5.7)</body></html>\n"
        )
        self.transport.write(response(status, headers, body.encode()))
        self.done()

    def finished(self, *, keep: bool) -> None:
        """Note that the answer has been passed on; ``keep`` if another request may follow."""
        self.other = None
        if keep:
            self.done()
        else:
            self.transport.close()

    def _forward(self, head: Head, body: bytes, exit_: str) -> None:
        method, target, version = head.start
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            address = self.proxy.resolve(host.strip("[]"), int(port), True)
        else:
            url = urlsplit(target)
            address = self.proxy.resolve(url.hostname or "", url.port or 80, False)
        if address is None:
            self.refuse(503, "ERR_DNS_FAIL 0")
        elif method == "CONNECT":
            self._start(self._open_tunnel(exit_, address))
        else:
            path = url._replace(scheme="", netloc="").geturl() or "/"
            lines = [f"{method} {path} {version}"]
            lines += [f"{k}: {v}" for k, v in head.headers.items() if k != "proxy-connection"]
            raw = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
            upstream = self.proxy.borrow(exit_, address)
            if upstream is None:
                self._start(self._open_upstream(exit_, address, raw, method))
            else:
                self._send(upstream, raw, method)

    def _start(self, work: Any) -> None:
        self.work = asyncio.get_running_loop().create_task(work)

    async def _open_upstream(self, exit_: str, address: Address, raw: bytes, method: str) -> None:
        def protocol() -> Upstream:
            return Upstream(self.proxy, (exit_, address))

        try:
            upstream = await self.proxy.connect(protocol, exit_, address)
        except OSError as error:
            self.refuse(503, f"ERR_CONNECT_FAIL {error.errno}")
            return
        assert isinstance(upstream, Upstream)
        self._send(upstream, raw, method)

    def _send(self, upstream: Upstream, raw: bytes, method: str) -> None:
        self.other = upstream.transport
        upstream.send(self, raw, method)

    async def _open_tunnel(self, exit_: str, address: Address) -> None:
        try:
            await self.proxy.connect(lambda: Tunnel(self, self.connections), exit_, address)
        except OSError as error:
            self.refuse(503, f"ERR_CONNECT_FAIL {error.errno}")
            return
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")


def _credentials(header: str) -> tuple[str, str] | None:
    """Return user and password of a Basic header; None if there is no readable one."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, _, password = decoded.partition(":")
    return user, password
