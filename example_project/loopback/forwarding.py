"""The proxies' side towards the site: connections for single requests, and tunnels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from loopback.wire import END, Head

if TYPE_CHECKING:
    from loopback.client import Client
    from loopback.proxy import Proxy

    Key = tuple[str, tuple[str, int]]  # exit, and the address it leads to


class _Outgoing(asyncio.Protocol):
    """A connection to the site; slows down when the client cannot take more."""

    transport: asyncio.Transport
    client: Client | None = None

    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self.connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.connections.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self.transport)
        if self.client is not None:
            self.client.transport.close()

    def pause_writing(self) -> None:
        if self.client is not None:
            self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.client is not None:
            self.client.transport.resume_reading()


class Tunnel(_Outgoing):
    """Passes bytes of a CONNECT tunnel on."""

    def __init__(self, client: Client, connections: set[asyncio.Transport]) -> None:
        super().__init__(connections)
        self.client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.client is not None
        self.client.other = self.transport
        self.client.tunnel = True
        if self.client.transport.is_closing():
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        assert self.client is not None
        self.client.transport.write(data)


class Upstream(_Outgoing):
    """Serves one request after another, for whichever client needs this exit.

    Understands answers with a length (all the site sends); others end with the connection.
    """

    def __init__(self, pool: Proxy, key: Key) -> None:
        super().__init__(pool.connections)
        self.pool = pool
        self.key = key
        self.head = bytearray()
        self.left: int | None = None  # bytes of the body to come; None: until the site closes
        self.answering = False
        self.bodyless = False
        self.keep = True

    def send(self, client: Client, raw: bytes, method: str) -> None:
        """Send a request whose answer goes to ``client``."""
        self.client = client
        self.bodyless = method == "HEAD"
        self.answering = False
        self.head.clear()
        self.transport.write(raw)

    def data_received(self, data: bytes) -> None:
        if self.client is None:
            self.transport.close()
            return
        self.client.transport.write(data)
        if not self.answering:
            self.head += data
            end = self.head.find(END)
            if end < 0:
                return
            self.answering = True
            self._read_head(Head.parse(bytes(self.head[:end])))
            data = bytes(self.head[end + len(END) :])
        if self.left is not None:
            self.left -= len(data)
            if self.left <= 0:
                self._finish()

    def _read_head(self, head: Head) -> None:
        empty = self.bodyless or head.start[1] in ("204", "304")
        self.left = 0 if empty else head.length if "content-length" in head.headers else None
        self.keep = head.headers.get("connection", "").lower() != "close"

    def _finish(self) -> None:
        client, self.client = self.client, None
        if self.keep:
            self.pool.give_back(self)
        else:
            self.transport.close()
        if client is not None:
            client.finished(keep=self.keep)
