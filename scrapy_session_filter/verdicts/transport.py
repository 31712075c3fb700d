"""What an exception instead of an answer says: who failed, the proxy, the site, or this machine.

Exceptions are told apart by class name and message, so that this module needs neither Scrapy nor
Twisted nor any download handler. It knows Scrapy 2.14 (Twisted's own exceptions, ``TunnelError``)
to 2.19 (``Download*Error``) with the handlers for HTTP/1.1, HTTP/2, aiohttp, httpx, Playwright
(``net::ERR_*``) and impersonate (``curl: (n)``).
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from scrapy_session_filter.verdict import About, Kind, Strength, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHAIN_LIMIT = 8  # causes looked at
_MESSAGE_LIMIT = 600  # characters

# What failed: reason to the texts (lower case) and class names that say so, in order.
# Sources: Scrapy's download handlers 2.14 to 2.19, Chromium's net_error_list.h, Firefox's
# xpcom/base/ErrorList.py, Playwright's messages, libcurl-errors(3), errno(3).
_LOCAL = {
    "local-open-files": ("too many open files", "err_insufficient_resources"),
    "local-no-route": (
        *("no route to host", "network is unreachable", "network is down", "noroute"),
        *("err_internet_disconnected", "err_network_changed", "err_address_unreachable"),
    ),
    "local-bind": (*("cannot assign requested address", "address already in use", "curl: (45)"),),
    "local-resolver": (
        *(
            "temporary failure in name resolution",
            "could not contact dns servers",
            "no nameservers",
        ),
        *("err_dns_server_failed", "err_dns_timed_out", "err_dns_malformed_response"),
    ),
    "local-browser": ("page crashed", "target crashed", "browsertype.launch", "from the driver"),
    "local-memory": (
        "cannot allocate memory",
        "no buffer space available",
        "err_out_of_memory",
        "curl: (27)",
    ),
}
_LOCAL_NAMES = {
    "ConnectBindError": "local-bind",
    "NoRouteError": "local-no-route",
    "StopDownload": "local-stopped",  # by a user's handler
    "DownloadCancelledError": "local-cancelled",  # DOWNLOAD_MAXSIZE
    "CancelledError": "local-cancelled",
}
_LOCAL_ERRNOS = {
    errno.EMFILE: "local-open-files",
    errno.ENFILE: "local-open-files",
    errno.ENETUNREACH: "local-no-route",
    errno.ENETDOWN: "local-no-route",
    errno.EHOSTUNREACH: "local-no-route",
    errno.EADDRNOTAVAIL: "local-bind",
    errno.EADDRINUSE: "local-bind",
    errno.ENOBUFS: "local-memory",
    errno.ENOMEM: "local-memory",
}
_PROXY = {
    "proxy-auth": (
        *("proxy authentication", "err_proxy_auth", "err_unexpected_proxy_auth"),
        *("err_invalid_auth_credentials", "'status': 407", "response 407", "407, message"),
        "ns_error_proxy_authentication",
    ),
    "proxy-refused": (
        *(
            "err_proxy_",
            "err_mandatory_proxy",
            "err_no_supported_proxies",
            "could not resolve proxy",
        ),
        *("cannot connect to proxy", "failed to connect to proxy", "curl: (97)"),
        *("ns_error_proxy_", "ns_error_unknown_proxy_host"),
    ),
    "proxy-tunnel": (
        *(
            "err_tunnel_connection_failed",
            "connect tunnel",
            "tunnel failed",
            "err_socks_connection",
        ),
        *("proxy connect aborted", "proxy responded with"),
    ),
}
_PROXY_NAMES = {
    "TunnelError": "proxy-tunnel",
    "ProxyError": "proxy-refused",
    "ClientProxyConnectionError": "proxy-refused",
    "ClientHttpProxyError": "proxy-tunnel",
}
_ABORTED = ("err_aborted", "target page, context or browser has been closed")
_DNS = (
    frozenset(("CannotResolveHostError", "DNSLookupError", "ClientConnectorDNSError", "gaierror")),
    (
        "err_name_not_resolved",
        "could not resolve host",
        "name or service not known",
        "ns_error_unknown_host",
    ),
)
_TIMEOUT = (
    frozenset(("DownloadTimeoutError", "TimeoutError", "TimeoutException", "Timeout")),
    (
        "err_timed_out",
        "err_connection_timed_out",
        "timed out",
        "took longer than",
        "ns_error_net_timeout",
    ),
)
_REFUSED = (
    frozenset(("DownloadConnectionRefusedError", "ConnectionRefusedError", "ClientConnectorError")),
    (
        *("err_connection_refused", "err_connection_failed", "connection refused", "curl: (7)"),
        "ns_error_connection_refused",
        *("all connection attempts failed",),
    ),
)
_LOST = (
    frozenset(
        (
            *("ResponseNeverReceived", "ResponseFailed", "DownloadFailedError", "ConnectionLost"),
            *("ConnectionDone", "ConnectionError", "ClientError", "ResponseDataLossError"),
            *("RemoteProtocolError", "ReadError", "WriteError", "IncompleteRead", "SSLError"),
        )
    ),
    (
        *("err_connection_reset", "err_connection_closed", "err_empty_response", "err_http2_"),
        *("err_ssl", "err_cert", "err_quic", "err_invalid_http_response", "err_incomplete_"),
        *("ns_error_net_", "ns_error_abort", "ssl_error_", "sec_error_"),
        *("curl: (1)", "curl: (8)", "curl: (16)", "curl: (18)", "curl: (35)", "curl: (52)"),
        *("curl: (55)", "curl: (56)", "curl: (60)", "curl: (92)", "curl: (95)", "curl: (96)"),
    ),
)

_BROWSER_ERROR = re.compile(r"(?<=net::)err_[a-z0-9_]{1,50}|\bns_error_[a-z0-9_]{1,50}")


def by_exception(exception: BaseException, *, proxied: bool = True) -> Verdict:
    """Return the verdict of a request that ended in an exception.

    ``proxied`` says whether it went through a proxy: then a refused connection or a time-out before
    the site answered is the proxy's. That a site had answered (a browser loads a page for a long
    time) the engine says by an attribute ``answered`` of the exception. An exception that nothing
    here knows is a SITE_ERROR with the reason ``exception-<ClassName>``, or the browser's own name of
    it, to be counted by that name.
    """
    chain = list(_chain(exception))
    names = {cls.__name__ for error in chain for cls in type(error).__mro__}
    text = "\n".join(_message(error) for error in chain).lower()
    proxied = proxied and not getattr(exception, "answered", False)
    return (
        _local(chain, names, text)
        or (_proxy(names, text) if proxied else None)
        or _connection(names, text, proxied=proxied)
        or Verdict(Kind.SITE_ERROR, f"exception-{_name(exception, text)}", Strength.WEAK)
    )


def _name(exception: BaseException, text: str) -> str:
    """Return what an unknown exception is counted by: browsers' errors are all of one class."""
    browser = _BROWSER_ERROR.search(text)
    return browser[0].upper() if browser else type(exception).__name__[:60]


def _local(chain: list[BaseException], names: set[str], text: str) -> Verdict | None:
    for error in chain:
        for number in (getattr(error, "errno", None), getattr(error, "osError", None)):
            if isinstance(error, Exception) and isinstance(number, int) and number in _LOCAL_ERRNOS:
                return Verdict(Kind.SITE_ERROR, _LOCAL_ERRNOS[number])
    for name, reason in _LOCAL_NAMES.items():
        if name in names:
            return Verdict(Kind.SITE_ERROR, reason)
    for reason, texts in _LOCAL.items():
        found = _first(texts, text)
        if found:
            return Verdict(Kind.SITE_ERROR, reason, evidence=found)
    return None


def _proxy(names: set[str], text: str) -> Verdict | None:
    for reason, texts in _PROXY.items():
        found = _first(texts, text)
        if found:
            return _of_proxy(reason, text, found)
    for name, reason in _PROXY_NAMES.items():
        if name in names:
            return _of_proxy(reason, text, name)
    return None


def _of_proxy(reason: str, text: str, evidence: str) -> Verdict:
    """Blame the proxy, weakly for a tunnel that failed with 502 to 504: it may be the site's."""
    gateway = reason == "proxy-tunnel" and _first(("502", "503", "504"), text)
    strength = Strength.WEAK if gateway else Strength.STRONG
    return Verdict(Kind.PROXY_ERROR, reason, strength, About.ADDRESS, evidence=evidence)


def _connection(names: set[str], text: str, *, proxied: bool) -> Verdict | None:
    """Judge a connection that did not come about, or did not last.

    Through a proxy the only name looked up here is the proxy's, and the only host that can refuse
    or keep silent on this wire is the proxy. A connection lost later proves nobody guilty: the
    tunnel stood, and the site or something before it hung up.
    """
    if _first(_ABORTED, text):
        return Verdict(Kind.SITE_ERROR, "cancelled", Strength.WEAK)
    for what, signs in (("dns", _DNS), ("timeout", _TIMEOUT), ("refused", _REFUSED)):
        if _is(signs, names, text):
            if proxied:
                return Verdict(Kind.PROXY_ERROR, f"proxy-{what}", about=About.ADDRESS)
            return Verdict(Kind.SITE_ERROR, what)
    if _is(_LOST, names, text):
        return Verdict(Kind.SITE_ERROR, "connection-lost", Strength.WEAK)
    return None


def _is(signs: tuple[frozenset[str], tuple[str, ...]], names: set[str], text: str) -> bool:
    return not names.isdisjoint(signs[0]) or _first(signs[1], text) is not None


def _chain(exception: BaseException) -> Iterator[BaseException]:
    """Yield the exception, its causes, and what Twisted's ResponseFailed carries in ``reasons``."""
    todo: list[object] = [exception]
    seen: set[int] = set()
    while todo and len(seen) < _CHAIN_LIMIT:
        error = todo.pop(0)
        error = getattr(error, "value", error) if not isinstance(error, BaseException) else error
        if not isinstance(error, BaseException) or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        reasons = getattr(error, "reasons", None)
        todo += list(reasons)[:_CHAIN_LIMIT] if isinstance(reasons, (list, tuple)) else []
        todo += [error.__cause__, error.__context__, getattr(error, "os_error", None)]


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MESSAGE_LIMIT]
    except Exception:  # noqa: BLE001 - a foreign exception's text may raise anything
        return ""


def _first(texts: tuple[str, ...], text: str) -> str | None:
    return next((part for part in texts if part in text), None)
