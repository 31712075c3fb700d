"""The proxies: one gateway whose user names are sessions, and a list with one port per exit."""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from loopback.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from loopback.forwarding import Upstream
    from loopback.wire import Head

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
            lambda: Client(self, None), "127.0.0.1", port, backlog=1000
        )
        self.port = self._gateway.sockets[0].getsockname()[1]

    async def open_list(self, exits: Collection[str]) -> None:
        """Open (again) one port for each of these exits, at the exit's address if it has one."""
        loop = asyncio.get_running_loop()
        for exit_ in exits:
            host, port = self.list_addresses.get(
                exit_, (exit_ if self.bind_exits else "127.0.0.1", 0)
            )
            server = await loop.create_server(lambda e=exit_: Client(self, e), host, port)  # type: ignore[misc]
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

    def record(
        self,
        connection: int,
        head: Head,
        credentials: tuple[str, str] | None,
        session: str | None,
        exit_: str,
    ) -> None:
        """Count a request, and note it in `passages`."""
        self.passage_count += 1
        if self.keep_passages:
            user, password = credentials or (None, None)
            method, target, _ = head.start
            now = time.monotonic()
            self.passages.append(
                Passage(now, connection, method, target, user, password, session, exit_)
            )

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
