# ruff: noqa: E501 - a case is one line, to be read across
"""Exceptions of every Scrapy version and download handler, and whose fault they are."""

from __future__ import annotations

import errno
from asyncio import CancelledError
from typing import Any

import pytest
from scrapy import exceptions as scrapy_exceptions
from scrapy.core.downloader.handlers.http11 import TunnelError
from scrapy.exceptions import StopDownload
from twisted.internet import error as untyped_error
from twisted.python import failure
from twisted.web import _newclient

from scrapy_session_filter.verdict import About, Kind, Strength
from scrapy_session_filter.verdicts import Judge

JUDGE = Judge()
# Twisted's classes are not typed; these are the same classes, taken as anything
twisted_error: Any = untyped_error
Failure: Any = failure.Failure
ResponseFailed: Any = _newclient.ResponseFailed
ResponseNeverReceived: Any = _newclient.ResponseNeverReceived


def named(name: str, *bases: type[BaseException]) -> Any:
    """Return an exception class of this name: handlers that are not installed here raise such."""
    return type(name, bases or (Exception,), {})


def newer(name: str) -> Any:
    """Return Scrapy's class where this version has it (2.15 and later), else one of its name."""
    return getattr(scrapy_exceptions, name, named(name))


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def failed(*reasons: BaseException) -> Any:
    return ResponseNeverReceived([Failure(reason) for reason in reasons])


ClientConnectorError = named("ClientConnectorError", named("ClientError"))
ProxyConnectionError = named("ClientProxyConnectionError", ClientConnectorError)
PlaywrightError = named("Error")
CurlError = named("RequestException", OSError)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (newer("DownloadConnectionRefusedError")("Connection was refused by other side: 111"), "proxy-refused"),
        (twisted_error.ConnectionRefusedError(), "proxy-refused"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "proxy-refused"),
        (caused(newer("DownloadConnectionRefusedError")("Cannot connect to host gw:1"), ProxyConnectionError("x")), "proxy-refused"),
        (newer("DownloadTimeoutError")("Getting https://x took longer than 30.0 seconds."), "proxy-timeout"),
        (twisted_error.TimeoutError(), "proxy-timeout"),
        (twisted_error.TCPTimedOutError(), "proxy-timeout"),
        (TimeoutError(), "proxy-timeout"),
        (named("ConnectTimeout", named("TimeoutException"))("x"), "proxy-timeout"),
        (TunnelError("Could not open CONNECT tunnel with proxy gw:1 [{'status': 407, 'reason': b'Auth'}]"), "proxy-auth"),
        (TunnelError("Could not open CONNECT tunnel with proxy gw:1 [{'status': 403, 'reason': b'No'}]"), "proxy-tunnel"),
        (newer("DownloadFailedError")("407, message='Proxy Authentication Required', url='http://gw:1'"), "proxy-auth"),
        (newer("DownloadConnectionRefusedError")("407 Proxy Authentication Required"), "proxy-auth"),
        (named("ProxyError")("503 Service Unavailable"), "proxy-refused"),
        (PlaywrightError("Page.goto: net::ERR_PROXY_CONNECTION_FAILED at https://x/"), "proxy-refused"),
        (PlaywrightError("Page.goto: net::ERR_TUNNEL_CONNECTION_FAILED at https://x/"), "proxy-tunnel"),
        (PlaywrightError("Page.goto: NS_ERROR_PROXY_AUTHENTICATION_FAILED"), "proxy-auth"),
        (PlaywrightError("Page.goto: Timeout 30000ms exceeded: net::ERR_TIMED_OUT"), "proxy-timeout"),
        (PlaywrightError("Page.goto: net::ERR_INVALID_AUTH_CREDENTIALS at https://x/"), "proxy-auth"),
        (named("TimeoutError", PlaywrightError)("Page.goto: Timeout 30000ms exceeded."), "proxy-timeout"),
        (CurlError("Failed to perform, curl: (5) Could not resolve proxy: gw"), "proxy-refused"),
        (CurlError("Failed to perform, curl: (56) CONNECT tunnel failed, response 407"), "proxy-auth"),
        (CurlError("Failed to perform, curl: (56) CONNECT tunnel failed, response 500"), "proxy-tunnel"),
        (CurlError("Failed to perform, curl: (7) Failed to connect to gw port 1"), "proxy-refused"),
        (CurlError("Failed to perform, curl: (7) CONNECT tunnel failed, response 407"), "proxy-auth"),
        (named("ProxyError", CurlError)("Failed to perform, curl: (56) Proxy CONNECT aborted"), "proxy-tunnel"),
        (PlaywrightError("Page.goto: NS_ERROR_PROXY_CONNECTION_REFUSED"), "proxy-refused"),
        (PlaywrightError("Page.goto: NS_ERROR_NET_TIMEOUT"), "proxy-timeout"),
        (CurlError("Failed to perform, curl: (28) Operation timed out after 30000 ms"), "proxy-timeout"),
        (newer("CannotResolveHostError")("DNS lookup failed: no results for hostname lookup: gw"), "proxy-dns"),
    ],
)  # fmt: skip
def test_proxy(error: BaseException, reason: str) -> None:
    """Refused, silent, unfindable or unwilling: through a proxy it is the proxy."""
    verdict = JUDGE.exception(error)
    assert (verdict.kind, verdict.reason, verdict.about) == (
        Kind.PROXY_ERROR,
        reason,
        About.ADDRESS,
    )
    assert verdict.strength is Strength.STRONG


def test_tunnel_to_a_site_that_is_down() -> None:
    """A tunnel that fails with a gateway error blames the proxy weakly: the site may be down."""
    for status in (502, 503, 504):
        error = TunnelError(
            f"Could not open CONNECT tunnel with proxy gw:1 [{{'status': {status}}}]"
        )
        verdict = JUDGE.exception(error)
        assert (verdict.kind, verdict.strength) == (Kind.PROXY_ERROR, Strength.WEAK)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            newer("DownloadConnectionRefusedError")("Connection was refused by other side"),
            "refused",
        ),
        (twisted_error.ConnectionRefusedError(), "refused"),
        (newer("CannotResolveHostError")("DNS lookup failed"), "dns"),
        (twisted_error.DNSLookupError(), "dns"),
        (newer("DownloadTimeoutError")("took longer than 180 seconds"), "timeout"),
        (PlaywrightError("net::ERR_NAME_NOT_RESOLVED"), "dns"),
        (PlaywrightError("net::ERR_CONNECTION_REFUSED"), "refused"),
        (CurlError("curl: (6) Could not resolve host: x"), "dns"),
    ],
)
def test_site_without_a_proxy(error: BaseException, reason: str) -> None:
    """The same faults without a proxy are the site's."""
    verdict = JUDGE.exception(error, proxied=False)
    assert (verdict.kind, verdict.reason) == (Kind.SITE_ERROR, reason)


@pytest.mark.parametrize(
    "error",
    [
        failed(twisted_error.ConnectionLost()),
        ResponseFailed([Failure(twisted_error.ConnectionDone())]),
        newer("DownloadFailedError")("[<twisted.python.failure.Failure ConnectionLost>]"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        newer("ResponseDataLossError")("x"),
        named("ServerDisconnectedError", named("ClientError"))("Server disconnected"),
        named("RemoteProtocolError")("Server disconnected without sending a response."),
        PlaywrightError("net::ERR_EMPTY_RESPONSE"),
        CurlError("curl: (52) Empty reply from server"),
        CurlError("curl: (35) TLS connect error"),
        CurlError("curl: (1) Received HTTP/0.9 when not allowed"),
        named("IncompleteRead", CurlError)("curl: (18) end of response with 97 bytes missing"),
        PlaywrightError("Page.goto: net::ERR_INVALID_HTTP_RESPONSE at http://x/"),
        PlaywrightError("Page.goto: NS_ERROR_NET_RESET"),
    ],
)
def test_connection_lost(error: BaseException) -> None:
    """A connection that breaks once it stood proves nobody guilty."""
    for proxied in (True, False):
        verdict = JUDGE.exception(error, proxied=proxied)
        assert (verdict.kind, verdict.reason) == (Kind.SITE_ERROR, "connection-lost")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "local-open-files"),
        (twisted_error.ConnectBindError(errno.EMFILE, "Couldn't bind: 24: Too many open files."), "local-open-files"),
        (twisted_error.ConnectBindError(None, "Couldn't bind"), "local-bind"),
        (caused(newer("DownloadConnectionRefusedError")("Cannot connect to host gw [Too many open files]"), ClientConnectorError("x")), "local-open-files"),
        (failed(OSError(errno.ENETUNREACH, "Network is unreachable")), "local-no-route"),
        (twisted_error.NoRouteError(), "local-no-route"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "local-no-route"),
        (PlaywrightError("net::ERR_INTERNET_DISCONNECTED"), "local-no-route"),
        (PlaywrightError("Page.goto: Page crashed"), "local-browser"),
        (PlaywrightError("Connection closed while reading from the driver"), "local-browser"),
        (CurlError("curl: (7) Network is unreachable"), "local-no-route"),
        (OSError(-3, "Temporary failure in name resolution"), "local-resolver"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "local-memory"),
    ],
)  # fmt: skip
def test_local(error: BaseException, reason: str) -> None:
    """This machine's own trouble blames nobody, and says that it is local."""
    for proxied in (True, False):
        verdict = JUDGE.exception(error, proxied=proxied)
        assert (verdict.kind, verdict.reason) == (Kind.SITE_ERROR, reason)
        assert verdict.is_local


@pytest.mark.parametrize(
    "error", [newer("DownloadCancelledError")("x"), twisted_error.ConnectionAborted()]
)
def test_blames_no_proxy(error: BaseException) -> None:
    """What was cut off is no proxy's fault."""
    assert JUDGE.exception(error).kind is Kind.SITE_ERROR


@pytest.mark.parametrize(
    "error", [newer("DownloadCancelledError")("x"), CancelledError(), StopDownload()]
)
def test_what_the_crawl_stopped_blames_nobody(error: BaseException) -> None:
    """DOWNLOAD_MAXSIZE and the user's own handlers say nothing of the site either."""
    assert JUDGE.exception(error).is_local


def test_a_page_that_takes_long_is_not_the_proxys_fault() -> None:
    """Once the site has answered, what fails in a browser is the site's."""
    error = PlaywrightError("Page.goto: Timeout 30000ms exceeded: net::ERR_TIMED_OUT")
    assert JUDGE.exception(error).kind is Kind.PROXY_ERROR
    error.answered = True
    verdict = JUDGE.exception(error)
    assert (verdict.kind, verdict.reason) == (Kind.SITE_ERROR, "timeout")


def test_unknown() -> None:
    """An exception nobody knows is named by its class, and its text may be broken."""

    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    for error in (OddError(), KeyError("x"), named("W" * 200)()):
        verdict = JUDGE.exception(error)
        assert (verdict.kind, verdict.strength) == (Kind.SITE_ERROR, Strength.WEAK)
        assert verdict.reason == f"exception-{type(error).__name__[:60]}"
    browser = JUDGE.exception(
        PlaywrightError("Page.goto: net::ERR_TOO_MANY_REDIRECTS at http://x/")
    )
    assert browser.reason == "exception-ERR_TOO_MANY_REDIRECTS"


def test_no_secret_is_repeated() -> None:
    """No part of an exception's text but a known phrase gets into the verdict."""
    secret = "http://user:hunter2@gw:1"
    verdict = JUDGE.exception(newer("DownloadFailedError")(f"407, message='x', url='{secret}'"))
    assert "hunter2" not in str(verdict.as_dict())


def test_causes_in_a_ring() -> None:
    """Causes that lead back to the start end the search."""
    first, second = ValueError("x"), ValueError("y")
    first.__cause__, second.__cause__ = second, first
    assert JUDGE.exception(first).reason == "exception-ValueError"
