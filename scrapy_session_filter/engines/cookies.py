"""Cookie jars of Scrapy's CookiesMiddleware: one for each session, saved and restored.

Scrapy has an open proposal that replaces ``meta["cookiejar"]``; nothing outside this module touches
the key or the jars.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cached_property
from http.cookiejar import Cookie
from typing import TYPE_CHECKING, Any

from scrapy.downloadermiddlewares.cookies import CookiesMiddleware
from scrapy.http import Request
from scrapy.http.cookies import CookieJar

from scrapy_session_filter.site_keys import is_public_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping

    from scrapy.crawler import Crawler

    from scrapy_session_filter.session import Session

META_KEY = "cookiejar"

PER_DOMAIN = 50
"""Cookies kept of one domain in a session, as many as browsers keep at the least (RFC 6265, 6.1)."""
PER_SESSION = 300
"""Cookies kept in a session; without a bound a site can make each request megabytes long."""
COOKIE_BYTES = 4096
"""Name and value together (RFC 6265, 6.1)."""

_SAME_SITE = ("Strict", "Lax", "None")
_FIELDS = ("version", "name", "value", "port", "domain", "path", "secure", "expires", "discard")


class SessionJars:
    """The jars of a crawl's sessions; without CookiesMiddleware there are none."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler

    @cached_property
    def enabled(self) -> bool:
        """Whether CookiesMiddleware works here; without it a Cookie header is the request's own."""
        return self._crawler.get_downloader_middleware(CookiesMiddleware) is not None

    @cached_property
    def _jars(self) -> MutableMapping[Any, CookieJar]:
        middleware = self._crawler.get_downloader_middleware(CookiesMiddleware)
        return {} if middleware is None else middleware.jars

    def attach(self, request: Request, session: Session) -> None:
        """Let the request use the session's jar; a restored session's cookies come back here."""
        request.meta[META_KEY] = session.id
        if session.id not in self._jars and session.cookies:
            jar = CookieJar()
            for saved in session.cookies:
                restore_cookie(jar, saved)
            self._jars[session.id] = jar

    def rows(self, session: Session) -> list[dict[str, Any]]:
        """Return the cookies of the session's jar as they are saved."""
        return [_as_row(cookie) for cookie in self._jars.get(session.id, ())]

    def put(self, session: Session, row: dict[str, Any]) -> None:
        """Put a cookie into the session's jar, if the jar itself would accept it."""
        jar = self._jars.get(session.id)
        if jar is None:
            jar = self._jars[session.id] = CookieJar()
        restore_cookie(jar, row)

    def drop(self, session: Session, domain: str, path: str, name: str) -> None:
        """Take a cookie out of the session's jar."""
        with suppress(KeyError):
            self._jars[session.id].clear(domain, path, name)

    def remember(self, session: Session) -> None:
        """Copy the session's jar, if it has one, to ``session.cookies``, within the limits.

        What is over the limits goes from the jar, too, and an empty jar goes where nothing is in
        flight: sessions are many, and most have no cookies.
        """
        jar = self._jars.get(session.id)
        if jar is None:
            return
        kept = list(_within_limits(jar))
        if len(kept) < len(jar):
            names = {(cookie.domain, cookie.path, cookie.name) for cookie in kept}
            for cookie in list(jar):
                if (cookie.domain, cookie.path, cookie.name) not in names:
                    jar.clear(cookie.domain, cookie.path, cookie.name)
        session.cookies = [_as_row(cookie) for cookie in kept] or None
        if not kept and not session.in_flight:
            del self._jars[session.id]

    def forget(self, session: Session) -> None:
        """Drop the session's jar."""
        self._jars.pop(session.id, None)


def restore_cookie(jar: CookieJar, saved: object) -> bool:
    """Put a saved cookie into a jar if the jar itself would accept it from that domain now."""
    if not isinstance(saved, dict):
        return False
    domain, path, name = (saved.get(field) for field in ("domain", "path", "name"))
    value, expires = saved.get("value"), saved.get("expires")
    if not (isinstance(domain, str) and isinstance(path, str) and isinstance(name, str)):
        return False
    if not isinstance(value, (str, type(None))) or not _is_expiry(expires):
        return False
    if len(name) + len(value or "") > COOKIE_BYTES or _has_controls(name + (value or "") + path):
        return False
    if (expires is not None and expires <= time.time()) or not _is_of_one_site(domain):
        return False
    try:
        cookie = _cookie(saved, domain, path, name, value, expires)
        request = Request(f"{'https' if cookie.secure else 'http'}://{domain.lstrip('.')}{path}")
        jar.set_cookie_if_ok(cookie, request)
    except (ValueError, TypeError):
        return False
    return True


def _cookie(
    saved: dict[str, Any],
    domain: str,
    path: str,
    name: str,
    value: str | None,
    expires: float | None,
) -> Cookie:
    port = saved.get("port")
    return Cookie(
        version=0,
        name=name,
        value=value,
        port=port if isinstance(port, str) else None,
        port_specified=isinstance(port, str),
        domain=domain,
        domain_specified=domain.startswith("."),
        domain_initial_dot=domain.startswith("."),
        path=path if path.startswith("/") else "/",
        path_specified=True,
        secure=saved.get("secure") is True,
        expires=None if expires is None else int(expires),
        discard=saved.get("discard") is True,
        comment=None,
        comment_url=None,
        rest=_rest(saved),
    )


def _within_limits(jar: CookieJar) -> Iterable[Cookie]:
    per_domain: dict[str, int] = {}
    total = 0
    for cookie in jar:
        seen = per_domain.get(cookie.domain, 0)
        too_long = len(cookie.name) + len(cookie.value or "") > COOKIE_BYTES
        if too_long or seen >= PER_DOMAIN or total >= PER_SESSION:
            continue
        per_domain[cookie.domain] = seen + 1
        total += 1
        yield cookie


def _as_row(cookie: Cookie) -> dict[str, Any]:
    row = {field: getattr(cookie, field) for field in _FIELDS}
    # What only browsers go by; a jar keeps it as it came, in any case of letters.
    if cookie.has_nonstandard_attr("HttpOnly") or cookie.has_nonstandard_attr("httponly"):
        row["http_only"] = True
    same_site = cookie.get_nonstandard_attr("SameSite") or cookie.get_nonstandard_attr("samesite")
    if same_site and same_site.capitalize() in _SAME_SITE:
        row["same_site"] = same_site.capitalize()
    return row


def _rest(saved: dict[str, Any]) -> dict[str, str]:
    rest = {"HttpOnly": ""} if saved.get("http_only") is True else {}
    if saved.get("same_site") in _SAME_SITE:
        rest["SameSite"] = saved["same_site"]
    return rest


def _is_of_one_site(domain: str) -> bool:
    """Return whether a cookie's domain is a host, or holds hosts of one owner.

    CookiesMiddleware checks that of a site's cookies; the jar itself does not.
    """
    host = domain.removeprefix(".")
    return "." in host and not (domain != host and is_public_suffix(host))


def _is_expiry(value: object) -> bool:
    return value is None or (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53
    )


def _has_controls(text: str) -> bool:
    return any(character < " " or character == "\x7f" for character in text)
