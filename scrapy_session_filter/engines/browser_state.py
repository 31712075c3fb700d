"""What a browser context remembers of a site: cookies and local storage, as the session keeps them.

The session's cookie jar is the one place for cookies, whichever engine got them; local storage has no
meaning outside a browser and lies in ``session.engine``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Row = dict[str, Any]
Key = tuple[str, str, str]  # domain, path, name

STORAGE_BYTES = 24 * 1024
"""Local storage kept of a session, as JSON; of more the latest sites (scheme, host and port) stay.

A store takes 64 KiB of a session (`scrapy_session_filter.stores.base.MAX_ROW_BYTES`)."""

READ_STORAGE = "() => [location.origin, Object.entries(localStorage)]"
"""JavaScript that returns the local storage of a page; raises where it has none."""


def key_of(row: Mapping[str, Any]) -> Key:
    """Return what makes a cookie the same cookie."""
    return row["domain"], row["path"], row["name"]


def to_browser(row: Row) -> Row:
    """Return a saved cookie as Playwright takes it."""
    cookie = {
        "name": row["name"],
        "value": row["value"] or "",
        "domain": row["domain"],
        "path": row["path"],
        "expires": -1 if row["expires"] is None else row["expires"],
        "secure": bool(row["secure"]),
        "httpOnly": bool(row.get("http_only")),
    }
    same_site = row.get("same_site")
    if same_site and (same_site != "None" or cookie["secure"]):  # else Chromium refuses it
        cookie["sameSite"] = same_site
    return cookie


def from_browser(cookies: Iterable[Mapping[str, Any]]) -> dict[Key, Row]:
    """Return a context's cookies as the session keeps them.

    Cookies of a partition (CHIPS) are left out: a jar cannot tell them apart.
    """
    rows: dict[Key, Row] = {}
    for cookie in cookies:
        if cookie.get("partitionKey"):
            continue
        expires = cookie.get("expires", -1)
        row: Row = {
            "name": cookie["name"],
            "value": cookie["value"],
            "domain": cookie["domain"],
            "path": cookie["path"],
            "expires": None if expires < 0 else int(expires),
            "secure": bool(cookie.get("secure")),
            "discard": expires < 0,
        }
        if cookie.get("httpOnly"):
            row["http_only"] = True
        if cookie.get("sameSite"):
            row["same_site"] = cookie["sameSite"]
        rows[key_of(row)] = row
    return rows


def differs(row: Row, other: Row | None) -> bool:
    """Return whether a cookie is another one now, as far as the site can tell."""
    return other is None or any(
        (row.get(field) or None) != (other.get(field) or None)
        for field in ("value", "expires", "secure")
    )


def keep_storage(kept: Row, found: object) -> Row:
    """Return ``kept`` (origins to their entries) with what `READ_STORAGE` found, within the limit.

    A site whose storage would not fit is not kept at all: half of it may be worse than none.
    """
    if not isinstance(found, list) or len(found) != 2 or found[0] in ("null", ""):
        return kept
    origin, entries = found
    newest = {origin: dict(entries)} if entries else {}
    newest |= {name: storage for name, storage in kept.items() if name != origin}
    left = STORAGE_BYTES
    fitting: Row = {}
    for name, storage in newest.items():
        size = len(json.dumps({name: storage}))
        if size <= left:
            fitting[name] = storage
            left -= size
    return fitting


def storage_state(rows: Iterable[Row], origins: object) -> Row:
    """Return what `Browser.new_context` takes as ``storage_state``."""
    return {
        "cookies": [to_browser(row) for row in rows],
        "origins": [
            {
                "origin": origin,
                "localStorage": [
                    {"name": name, "value": value}
                    for name, value in entries.items()
                    if isinstance(value, str)
                ],
            }
            for origin, entries in (origins.items() if isinstance(origins, dict) else ())
            if isinstance(origin, str) and isinstance(entries, dict)
        ],
    }
