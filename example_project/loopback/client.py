"""The proxies' side towards the client: one connection of it."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loopback.forwarding import Tunnel, Upstream
from loopback.wire import Head, RequestProtocol, response

if TYPE_CHECKING:
    from loopback.proxy import Proxy

    Address = tuple[str, int]


class Client(RequestProtocol):
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
        method = head.start[0]
        credentials = _credentials(head.headers.pop("proxy-authorization", ""))
        exit_, session = proxy.admit(credentials, self.exit)
        proxy.record(self.number, head, credentials, session, exit_)
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
            f"<body><h1>ERROR</h1><p>{error}</p><hr>by loopback (squid/5.7)</body></html>\n"
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
