"""Whether Scrapy is set up so that a session's proxy, headers and cookies really reach the wire."""

from __future__ import annotations

import codecs
import logging
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from scrapy.downloadermiddlewares.cookies import CookiesMiddleware
from scrapy.downloadermiddlewares.httpcache import HttpCacheMiddleware
from scrapy.downloadermiddlewares.httpproxy import HttpProxyMiddleware
from scrapy.downloadermiddlewares.redirect import RedirectMiddleware
from scrapy.utils.misc import load_object
from scrapy.utils.python import global_object_name
from scrapy.utils.reactor import is_asyncio_reactor_installed, is_reactor_installed

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.proxies import Wire
from scrapy_session_filter.proxies.parsing import DEFAULT_PORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scrapy.settings import BaseSettings

logger = logging.getLogger("scrapy_session_filter")

SCHEMES = ("http", "https")
"""Of the requests that can have a session."""
_ASYNCIO_REACTOR = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"
_IPV4_RESOLVER = "CachingThreadedResolver"
_COMPONENTS = {
    "SessionFilterMiddleware": "DOWNLOADER_MIDDLEWARES",
    "ProxyGate": "DOWNLOADER_MIDDLEWARES",
    "SessionFilterExtension": "EXTENSIONS",
}
_POSITION = "DOWNLOADER_MIDDLEWARES['scrapy_session_filter.{}']"
_RIVALS = (  # set meta["proxy"] themselves
    "rotating_proxies.",
    "scrapy_rotating_proxies.",
    "scrapy_rotated_proxy.",
    "rotating_free_proxies.",
    "scrapy_proxies.",
    "scrapy_proxy_pool.",
    "scrapy_crawlera.",
    "scrapy_zyte_smartproxy.",
)


def check_surroundings(settings: BaseSettings, *, direct: bool) -> None:
    """Refuse settings of Scrapy's own under which requests would go out bare or not at all.

    ``direct``: sessions have no proxy. Raises `ConfigurationError`.
    """
    _check_reactor(settings)
    _check_positions(settings, direct=direct)
    if not settings.getbool("COOKIES_ENABLED"):
        logger.warning("COOKIES_ENABLED is False: sessions keep no cookies")
    if not direct and not settings.getbool("HTTPPROXY_ENABLED"):
        expected = "True: without HttpProxyMiddleware no proxy gets its credentials"
        _refuse("HTTPPROXY_ENABLED", False, expected)


def download_handlers(settings: BaseSettings) -> dict[str, Any]:
    """Return the handlers of http and https as they are set; a scheme without one is left out."""
    handlers = settings.getwithbase("DOWNLOAD_HANDLERS")
    return {scheme: handlers[scheme] for scheme in SCHEMES if handlers.get(scheme) is not None}


def check_impersonating(settings: BaseSettings) -> None:
    """Refuse download handlers that would ignore the session's impersonation target."""
    for scheme, handler in download_handlers(settings).items():
        names = {base.__name__ for base in getattr(load_quietly(handler), "__mro__", ())}
        if "ImpersonateDownloadHandler" not in names:
            path = handler if isinstance(handler, str) else global_object_name(handler)
            expected = (
                "'scrapy_impersonate.ImpersonateDownloadHandler', for SESSION_FILTER_IMPERSONATE"
            )
            _refuse(f"DOWNLOAD_HANDLERS[{scheme!r}]", path, expected)


def wire_of(settings: BaseSettings) -> Wire:
    """Return what this crawl can say to a proxy; the weakest of the download handlers decides.

    Raises `ConfigurationError` for handlers that send no request through a proxy at all. What a
    handler of another package can do is not known here and taken for granted.
    """
    encoding = settings["HTTPPROXY_AUTH_ENCODING"] or "utf-8"
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError):
        expected = "the name of an encoding, such as 'latin-1' or 'utf-8'"
        _refuse("HTTPPROXY_AUTH_ENCODING", encoding, expected)
    wires = [
        _wire_of_handler(scheme, handler, settings)
        for scheme, handler in download_handlers(settings).items()
    ]
    return Wire(
        auth_encoding=encoding,
        schemes=tuple(s for s in DEFAULT_PORTS if all(s in wire.schemes for wire in wires)),
        ipv6=all(wire.ipv6 for wire in wires),
        garbled="/" if any(wire.garbled for wire in wires) else "",
    )


def _wire_of_handler(scheme: str, handler: Any, settings: BaseSettings) -> Wire:
    path = handler if isinstance(handler, str) else global_object_name(handler)
    cls = load_quietly(handler)
    if path.endswith("H2DownloadHandler") or not getattr(cls, "supports_proxies", True):
        expected = "a handler that can use a proxy (this one cannot)"
        _refuse(f"DOWNLOAD_HANDLERS[{scheme!r}]", path, expected)
    names = {base.__name__ for base in getattr(cls, "__mro__", ())}
    if "HTTP11DownloadHandler" in names:
        # It has no https:// proxy for https pages; a socks:// one hangs or fails.
        resolver = str(settings["TWISTED_DNS_RESOLVER"] or settings["DNS_RESOLVER"])
        return Wire(schemes=("http",), ipv6=not resolver.endswith(_IPV4_RESOLVER))
    if "BaseStreamingDownloadHandler" in names:
        # It writes credentials into a URL again and leaves '/' as it is.
        socks = ("socks5", "socks5h") if cls is not None and _has_socks(cls) else ()
        return Wire(schemes=("http", "https", *socks), garbled="/")
    return Wire(schemes=tuple(DEFAULT_PORTS))


def _has_socks(handler: type) -> bool:
    modules = (sys.modules.get(base.__module__) for base in handler.__mro__)
    return any(getattr(module, "HAS_SOCKS", False) for module in modules)


def _check_reactor(settings: BaseSettings) -> None:
    if not settings.getbool("TWISTED_REACTOR_ENABLED", True):
        return  # then Scrapy runs on asyncio alone
    path = settings["TWISTED_REACTOR"]
    if path is None:  # whatever the script has installed
        fits = is_reactor_installed() and is_asyncio_reactor_installed()
    else:
        asyncio_reactor = load_object(_ASYNCIO_REACTOR)
        reactor = load_quietly(path)
        fits = isinstance(reactor, type) and issubclass(reactor, asyncio_reactor)
    if not fits:
        _refuse("TWISTED_REACTOR", path, repr(_ASYNCIO_REACTOR))


def _check_positions(settings: BaseSettings, *, direct: bool) -> None:
    placed = dict(_orders(settings, "DOWNLOADER_MIDDLEWARES"))
    listed = {*placed, *(name for name, _ in _orders(settings, "EXTENSIONS"))}
    ours = {
        name: component for component in _COMPONENTS for name in listed if _is_ours(name, component)
    }
    if not ours:
        return  # asked for outside a crawl
    for component, setting in _COMPONENTS.items():
        if component not in ours.values():
            expected = (
                f"scrapy_session_filter.{component} in it: each of the three needs the others"
            )
            _refuse(setting, "...", expected)
    order = {component: placed[name] for name, component in ours.items() if name in placed}
    _check_middleware(order["SessionFilterMiddleware"], settings)
    _check_gate(order["ProxyGate"], settings, direct=direct)
    for name in placed:
        if name.startswith(_RIVALS):
            logger.warning(
                "%s sets proxies of its own: requests that it takes have no session", name
            )


def _check_middleware(position: float, settings: BaseSettings) -> None:
    low = _order_of(RedirectMiddleware, settings, 600)
    high = _order_of(CookiesMiddleware, settings, 700)
    if not low < position < high:
        expected = (
            f"a position between RedirectMiddleware ({low:g}), which would swallow redirects to"
            f" captchas, and CookiesMiddleware ({high:g}), which needs the session's jar: say, 650"
        )
        _refuse(_POSITION.format("SessionFilterMiddleware"), position, expected)


def _check_gate(position: float, settings: BaseSettings, *, direct: bool) -> None:
    proxy = _order_of(HttpProxyMiddleware, settings, 750 if direct else None)
    low = max(proxy, _order_of(HttpCacheMiddleware, settings, 900))
    if not low < position:
        expected = (
            f"a position above HttpProxyMiddleware and HttpCacheMiddleware ({low:g}), such as 995"
        )
        _refuse(_POSITION.format("ProxyGate"), position, expected)


def _refuse(setting: str, value: object, expected: str) -> NoReturn:
    raise ConfigurationError(setting, value, expected) from None


def _is_ours(name: str, component: str) -> bool:
    package, _, last = name.rpartition(".")
    return last == component and package.partition(".")[0] == "scrapy_session_filter"


def _orders(settings: BaseSettings, setting: str) -> Iterator[tuple[str, float]]:
    """Yield import path and position of the components that are on; a user's own choice is last."""
    for component, order in settings.getwithbase(setting).items():
        if isinstance(order, (int, float)):
            yield component if isinstance(component, str) else global_object_name(component), order


def _order_of(cls: type, settings: BaseSettings, default: float | None) -> float:
    """Return where a middleware of Scrapy's or a subclass of it stands; ``default``: nowhere."""
    found: dict[type, float] = {}
    for component, order in settings.getwithbase("DOWNLOADER_MIDDLEWARES").items():
        loaded = load_quietly(component)
        if isinstance(loaded, type) and issubclass(loaded, cls):
            found.pop(loaded, None)
            if isinstance(order, (int, float)):
                found[loaded] = order
    if found:
        return max(found.values())
    if default is None:
        expected = f"{cls.__name__} in it: without it no proxy gets its credentials"
        _refuse("DOWNLOADER_MIDDLEWARES", "...", expected)
    return default


def load_quietly(path: Any) -> Any:
    """Return what Scrapy will load, or None: saying why it cannot be loaded is Scrapy's part."""
    try:
        return load_object(path)
    except Exception:  # noqa: BLE001 - whatever the import of a user's module raises
        return None
