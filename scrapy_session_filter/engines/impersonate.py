"""scrapy-impersonate: a session speaks TLS and HTTP/2 as one browser, for all its life.

The handler makes a new curl session for each request and keeps neither cookies nor connections of
its own; it takes the proxy, its credentials and the Cookie header from the request, and follows no
redirect. What it leaves to curl is set here: curl would heed ``http_proxy`` and ``no_proxy`` of the
environment, and send ``Request.cookies`` beside the session's.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from scrapy.downloadermiddlewares.httpcompression import ACCEPTED_ENCODINGS

from scrapy_session_filter.engines.http import HttpBinding
from scrapy_session_filter.targets import known_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scrapy import Request
    from scrapy.crawler import Crawler
    from typing_extensions import Self

    from scrapy_session_filter.session import Session
    from scrapy_session_filter.settings import SessionFilterSettings

TARGET = "impersonate"  # in a request's meta, and our part of ``session.engine``
ARGS, OPTIONS = "impersonate_args", "impersonate_curl_options"
_UNDOING = frozenset(
    (
        *("allow_redirects", "cookies", "curl_options", "headers", "impersonate", "interface"),
        *("ja3", "akamai", "perk", "extra_fp", "proxies", "proxy", "proxy_auth", "auth"),
    )
)
"""Arguments of curl_cffi with which a request would leave its session."""
_UNDOING_OPTIONS = (
    *("COOKIE", "FOLLOWLOCATION", "HTTPPROXYTUNNEL", "NOPROXY", "PRE_PROXY", "PROXY", "USERAGENT"),
    *("ABSTRACT_UNIX", "CONNECT_TO", "INTERFACE", "SOCKS5", "UNIX_SOCKET"),
)
"""Beginnings of the names of curl's options with which it would."""
_OF_A_BROWSER = (b"User-Agent", b"Accept", b"Accept-Language", b"Accept-Encoding")
_ACCEPTED = b", ".join(ACCEPTED_ENCODINGS)


class ImpersonateBinding(HttpBinding):
    """Puts a session on requests that scrapy-impersonate sends.

    These are all where ``SESSION_FILTER_IMPERSONATE`` names targets, but for those with a false meta
    ``impersonate``; else those with a target there. A session keeps the first target it has.
    """

    handlers: ClassVar[tuple[str, ...]] = ("scrapy_impersonate.handler.ImpersonateDownloadHandler",)
    sends_headers: ClassVar[bool] = False  # curl brings those that agree with its handshake

    @classmethod
    def from_crawler(cls, crawler: Crawler, settings: SessionFilterSettings) -> Self:
        """Take time-out and targets from the settings."""
        return cls(crawler, settings.first_timeout, settings.impersonate or ())

    def __init__(self, crawler: Crawler, first_timeout: float, targets: Sequence[str] = ()) -> None:
        super().__init__(crawler, first_timeout)
        self._targets = targets
        self._rng = Random()

    def serves(self, request: Request) -> bool:
        """Return whether the request is to be sent as a browser's."""
        wish = request.meta.get(TARGET)
        return bool(wish) if wish is not None else bool(self._targets)

    def refusal(self, request: Request) -> str | None:
        """Return what in the request would undo its session: an unknown target, a proxy of its own."""
        wish = request.meta.get(TARGET)
        if wish and wish not in known_targets():
            return f"curl_cffi has no impersonation target {wish!r:.60}"
        found = _undoing(request)
        return f"its {found} would undo the session" if found else None

    def adopt(self, session: Session) -> None:
        """Choose the target of a session that has none yet, where the settings name some."""
        if self._targets and _target(session) is None:
            _set_target(session, self._rng.choice(self._targets))

    def put_on(self, request: Request, session: Session) -> dict[str, Any]:
        """Set proxy, cookie jar, time-out and target of the session, and no header at all.

        Scrapy's defaults are removed, too: they would contradict the target.
        """
        marks = super().put_on(request, session)
        meta, wish = request.meta, request.meta.get(TARGET)
        if _target(session) is None:
            names = [wish] if wish else self._targets
            _set_target(session, known_targets()[self._rng.choice(names)])
        marks.update({key: meta[key] for key in (TARGET, ARGS, OPTIONS) if key in meta})
        meta[TARGET] = _target(session)
        args = dict(meta.get(ARGS) or {})
        if meta.get("download_timeout"):  # which the handler does not look at
            args.setdefault("timeout", meta["download_timeout"])
        if self._jars.enabled:
            args["cookies"] = None  # they are in the session's jar, hence in the Cookie header
        meta[ARGS] = args
        meta[OPTIONS] = {**(meta.get(OPTIONS) or {}), "NOPROXY": _no_proxy(session)}
        for name in _OF_A_BROWSER:
            default = dict.get(self._defaults, name, [_ACCEPTED])
            if dict.get(request.headers, name) == default:
                del request.headers[name]
        return marks

    def carries(self, request: Request, session: Session) -> bool:
        """Compare proxy, credentials, jar and target on the request with the session's."""
        meta = request.meta
        return (
            super().carries(request, session)
            and meta.get(TARGET) == _target(session)
            and (meta.get(OPTIONS) or {}).get("NOPROXY") == _no_proxy(session)
            and _undoing(request, ours=True) is None
        )

    def take_off(self, request: Request, marks: dict[str, Any]) -> None:
        """Remove all that `put_on` set, and give the request its own target and arguments back."""
        super().take_off(request, marks)
        for key in (TARGET, ARGS, OPTIONS):
            if key in marks:
                request.meta[key] = marks[key]
            else:
                request.meta.pop(key, None)


def _target(session: Session) -> str | None:
    """Return a session's target; None also where this curl_cffi does not know it any more."""
    target = (session.engine or {}).get(TARGET)
    return target if isinstance(target, str) and target in known_targets() else None


def _set_target(session: Session, target: str) -> None:
    session.engine = {**(session.engine or {}), TARGET: target}


def _no_proxy(session: Session) -> str:
    """Return the hosts to reach without a proxy: none, or all for a session that has none."""
    return "*" if session.endpoint is None else ""


def _undoing(request: Request, *, ours: bool = False) -> str | None:
    """Return which argument or option of a request would undo its session; ``ours`` are on it."""
    for name, value in (request.meta.get(ARGS) or {}).items():
        if name in _UNDOING and not (ours and name == "cookies" and value is None):
            return f'meta "{ARGS}" with {name!r}'
    for option in request.meta.get(OPTIONS) or {}:
        name = _option_name(option)
        if name.startswith(_UNDOING_OPTIONS) and not (ours and option == "NOPROXY"):
            return f'meta "{OPTIONS}" with {name!r}'
    return None


def _option_name(option: object) -> str:
    if isinstance(option, int) and not hasattr(option, "name"):
        from curl_cffi import CurlOpt  # noqa: PLC0415 - of an extra

        try:
            return CurlOpt(option).name
        except ValueError:
            return "PROXY?"  # unknown: it could be anything
    return str(getattr(option, "name", option)).upper()
