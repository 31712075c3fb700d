"""Just enough HTTP/1.1: heads, and where requests end."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

END = b"\r\n\r\n"


@dataclass(slots=True)
class Head:
    """Start line and headers; names in lower case, repeated ones joined by a comma."""

    start: list[str]
    headers: dict[str, str]

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """Read a head without its closing empty line."""
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            value = value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return cls(first.split(" ", 2), headers)

    @property
    def length(self) -> int:
        """Content-Length, 0 where there is none."""
        return int(self.headers.get("content-length", 0))


def response(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Put a whole response together; its length is added to the headers."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + END + body


class RequestProtocol(asyncio.Protocol):
    """Collects whole requests and hands them to `request` one at a time.

    The subclass calls `done` when it has answered; what arrived meanwhile waits in the buffer.
    """

    transport: asyncio.Transport

    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self.connections = connections
        self.buffer = bytearray()
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.connections.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self.transport)
        self.transport.close()  # Python 3.10 calls a lost TLS transport unclosed otherwise

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.busy:
            self._next()

    def done(self) -> None:
        """Take the next request."""
        self.busy = False
        if self.buffer:
            self._next()

    def _next(self) -> None:
        end = self.buffer.find(END)
        if end < 0:
            return
        head = Head.parse(bytes(self.buffer[:end]))
        total = end + len(END) + head.length
        if len(self.buffer) < total:
            return
        body = bytes(self.buffer[end + len(END) : total])
        del self.buffer[:total]
        self.busy = True
        self.request(head, body)

    @abstractmethod
    def request(self, head: Head, body: bytes) -> None:
        """Answer one request, then call `done`."""
