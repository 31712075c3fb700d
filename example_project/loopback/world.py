"""The world as a whole: the site and its proxies, in a thread of their own."""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
import threading
import time
from functools import cache
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING, Any

from loopback.proxy import Proxy
from loopback.shop import Shop
from loopback.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from typing_extensions import Self

_FIRST_EXIT = IPv4Address("127.16.0.0")
_SUBNET = 256


class World:
    """A site and its proxies on the loopback interface; a context manager.

    ``exits`` is their number, ``subnets`` how many /24 networks they lie in (0: as few as it
    takes). ``seed`` decides what `pick_exits` picks. ``products`` and ``page_size`` (bytes) shape
    the shop; each answer takes ``latency`` seconds, and up to ``jitter`` more. ``port`` is the
    gateway's, 0 for any free one.
    ``proxy`` holds more arguments of `Proxy`. With ``tls`` the site speaks https too, with a
    certificate of its own (needs trustme). With ``keep`` false visits and passages are counted
    only.

    Names ending in ``.invalid`` do not resolve, ``refused.*`` refuses connections, an address is
    taken as it is, and every other name is the site.
    """

    def __init__(
        self,
        exits: int = 16,
        *,
        subnets: int = 0,
        seed: int = 1,
        products: int = 320,
        page_size: int = 1500,
        latency: float = 0.0,
        jitter: float = 0.0,
        port: int = 0,
        tls: bool = True,
        cookies: bool = True,
        keep: bool = True,
        proxy: dict[str, Any] | None = None,
    ) -> None:
        own_addresses = sys.platform == "linux"  # all of 127.0.0.0/8 is ours there
        self.exits = _addresses(exits, subnets)
        self.site = Site(
            Shop(products, page_size),
            latency=latency,
            jitter=jitter,
            cookies=cookies,
            keep_visits=keep,
        )
        options = {"keep_passages": keep, "bind_exits": own_addresses, **(proxy or {})}
        self.proxy = Proxy(self.exits, self._resolve, **options)
        self.template = options.get("template", "user-session-{session}")
        self.errors: list[str] = []
        if self.proxy.bind_exits:
            self.site.exit_of = _exit_address
        else:
            self.site.exit_of = lambda peer: self.proxy.exit_by_port.get(peer[1])
        self._tls = tls
        self._gateway_port = port
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loopback-world")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Open all ports."""
        self._loop.set_exception_handler(self._note_error)
        self._thread.start()
        try:
            self._call(self._start())
        except BaseException:
            self._call(self._stop())
            self._end_thread()
            raise

    def stop(self) -> None:
        """Close everything; raises RuntimeError if a server had an error of its own."""
        self._call(self._stop())
        self._end_thread()
        if self.errors:
            msg = "the loopback world failed: " + "; ".join(self.errors)
            raise RuntimeError(msg)

    @property
    def gateway(self) -> str:
        """URL of the gateway, with ``{session}`` to fill in."""
        password = "any" if self.proxy.password is None else self.proxy.password
        return f"http://{self.template}:{password}@127.0.0.1:{self.proxy.port}"

    def proxies(self, exits: Collection[str] | None = None) -> list[str]:
        """Return one URL per exit, of these or of all; ports are opened when first asked for."""
        wanted = self.exits if exits is None else list(exits)
        missing = [exit_ for exit_ in wanted if exit_ not in self.proxy.list_addresses]
        self._call(self.proxy.open_list(missing))
        auth = f"{self.proxy.list_auth}@" if self.proxy.list_auth else ""
        addresses = [self.proxy.list_addresses[exit_] for exit_ in wanted]
        return [f"http://{auth}{host}:{port}" for host, port in addresses]

    def url(self, path: str = "/", host: str = "shop.example", *, https: bool = False) -> str:
        """Return the URL of a page as a crawl through the proxies asks for it."""
        return f"{'https' if https else 'http'}://{host}{path}"

    def direct_url(self, path: str = "/", *, https: bool = False) -> str:
        """Return the URL of a page by address, reachable without a proxy too."""
        port = self.site.tls_port if https else self.site.port
        return f"{'https' if https else 'http'}://127.0.0.1:{port}{path}"

    def pick_exits(self, share: float) -> list[str]:
        """Return a random ``share`` (0..1) of the exits, the same for the same seed."""
        return self._random.sample(self.exits, round(share * len(self.exits)))

    def ban(self, exits: Collection[str], answer: Any = "forbidden") -> None:
        """Refuse every page to these exits with this answer; see `Site.on`."""
        self.site.on("*", answer, exits=exits)

    def kill(self, exits: Collection[str]) -> None:
        """Close the list's ports of these exits: they refuse connections. `revive` opens them."""
        self._loop_call(self.proxy.close_list, exits)

    def revive(self, exits: Collection[str]) -> None:
        """Open the ports of these exits again."""
        self._call(self.proxy.open_list(exits))

    def kill_gateway(self) -> None:
        """Close the gateway and all connections through proxies. `revive_gateway` opens it."""
        self._loop_call(self.proxy.close_gateway)

    def revive_gateway(self) -> None:
        """Open the gateway again, on its old port."""
        self._call(self.proxy.start(self.proxy.port))

    def stats(self) -> dict[str, Any]:
        """Return the site's counts, those of the proxies, and this process's CPU seconds."""
        return {
            **self.site.stats(),
            "passages": self.proxy.passage_count,
            "proxy_connections": self.proxy.connection_count,
            "cpu": time.process_time(),
        }

    def _resolve(self, host: str, port: int, tls: bool) -> tuple[str, int] | None:
        if host.endswith(".invalid"):
            return None
        if host.startswith("refused."):
            return ("127.0.0.1", 1)
        try:
            return (str(ip_address(host)), port)
        except ValueError:
            return ("127.0.0.1", self.site.tls_port if tls else self.site.port)

    async def _start(self) -> None:
        await self.site.start(_certificate() if self._tls else None)
        await self.proxy.start(self._gateway_port)

    async def _stop(self) -> None:
        self.proxy.stop()
        self.site.stop()
        this = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not this]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for _ in range(3):  # connections that were cut say goodbye in the next rounds
            await asyncio.sleep(0)

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    def _loop_call(self, function: Callable[..., None], *args: Any) -> None:
        async def call() -> None:
            function(*args)

        self._call(call())

    def _note_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, (ConnectionError, ssl.SSLError, TimeoutError)):
            self.errors.append(f"{context['message']}: {error!r}")


def _addresses(count: int, subnets: int) -> list[str]:
    """Return exit addresses, dealt out over subnets in turn (0: filled one after another)."""
    per_net = _SUBNET - 2  # leave .0 and .255 alone, as a real network does
    nets = subnets or -(-count // per_net)
    if count > nets * per_net:
        msg = f"{count} exits do not fit into {nets} subnets"
        raise ValueError(msg)
    return [str(_FIRST_EXIT + i % nets * _SUBNET + i // nets + 1) for i in range(count)]


def _exit_address(peer: tuple[str, int]) -> str | None:
    return peer[0] if IPv4Address(peer[0]) >= _FIRST_EXIT else None


@cache
def _certificate() -> ssl.SSLContext:
    """Return a server context with a certificate nobody vouches for, made once per process."""
    import trustme  # noqa: PLC0415 - a plain http world does without it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("*.example", "127.0.0.1").configure_cert(context)
    return context
