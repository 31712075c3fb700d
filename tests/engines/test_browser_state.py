"""Cookies and storage go from a session to a browser and back without a change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scrapy.http import Request, Response
from scrapy.http.cookies import CookieJar

from scrapy_session_filter.engines.browser_state import (
    STORAGE_BYTES,
    differs,
    from_browser,
    keep_storage,
    key_of,
    storage_state,
    to_browser,
)
from scrapy_session_filter.engines.cookies import _as_row, restore_cookie

LATER = 4_000_000_000


def browser_cookie(**fields: Any) -> dict[str, Any]:
    """A cookie as Playwright tells of it."""
    return {
        "name": "a",
        "value": "1",
        "domain": "shop.example",
        "path": "/",
        "expires": -1,
        "httpOnly": False,
        "secure": False,
        "sameSite": "Lax",
        **fields,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"domain": ".shop.example", "path": "/deep"},
        {"expires": LATER, "httpOnly": True},
        {"secure": True, "sameSite": "None"},
        {"value": ""},
    ],
)
def test_cookies_there_and_back(fields: dict[str, Any]) -> None:
    """What a browser has is in the jar, in the saved row, and in the next browser."""
    cookie = browser_cookie(**fields)
    (row,) = from_browser([cookie]).values()
    jar = CookieJar()
    assert restore_cookie(jar, row)
    (saved,) = (json.loads(json.dumps(_as_row(kept))) for kept in jar)
    assert key_of(saved) == key_of(row)
    assert not differs(saved, row)
    assert to_browser(saved) == cookie


def test_cookies_of_http_in_a_browser() -> None:
    """What a Set-Cookie header says of HttpOnly and SameSite is known to the browser."""
    jar = CookieJar()
    request = Request("https://shop.example/")
    set_cookie = {"Set-Cookie": "a=1; Secure; HttpOnly; SameSite=strict"}
    jar.extract_cookies(Response(request.url, headers=set_cookie), request)
    (row,) = map(_as_row, jar)
    assert to_browser(row) == browser_cookie(secure=True, httpOnly=True, sameSite="Strict")


def test_partitioned_cookies_are_left_out() -> None:
    """A jar cannot tell them apart."""
    assert not from_browser([browser_cookie(partitionKey="https://other.example")])


def test_a_third_party_cookie_that_is_not_secure() -> None:
    """Chromium would refuse SameSite None without Secure, and with it all others."""
    assert "sameSite" not in to_browser({**_row(), "same_site": "None"})


def _row() -> dict[str, Any]:
    return next(iter(from_browser([browser_cookie()]).values()))


@pytest.mark.parametrize("change", [{"value": "2"}, {"expires": LATER}, {"secure": True}])
def test_a_changed_cookie_differs(change: dict[str, Any]) -> None:
    """Value, expiry and security are what a site can tell."""
    assert differs({**_row(), **change}, _row())
    assert differs(_row(), None)
    assert not differs(_row(), _row())


def test_storage_of_many_sites_is_bounded() -> None:
    """The newest sites stay, one that is too large is not kept, an emptied one goes."""
    kept: dict[str, Any] = {}
    for number in range(40):
        origin = f"https://{number}.example"
        kept = keep_storage(kept, [origin, [["key", "x" * 1000]]])
    assert next(iter(kept)) == "https://39.example"
    assert len(json.dumps(kept)) <= STORAGE_BYTES
    assert keep_storage(kept, ["https://39.example", []]).keys() == kept.keys() - {
        "https://39.example"
    }
    huge = keep_storage(kept, ["https://huge.example", [["key", "ä" * STORAGE_BYTES]]])
    assert "https://huge.example" not in huge
    for nothing in (None, [], ["null", [["a", "b"]]], "text"):
        assert keep_storage(kept, nothing) == kept


def test_storage_state_takes_what_is_sound() -> None:
    """A damaged row of the store makes no context impossible."""
    origins = {"https://a.example": {"k": "v", "n": 1}, "https://b.example": "no", 3: {}}
    state = storage_state([_row()], origins)
    assert state["origins"] == [
        {"origin": "https://a.example", "localStorage": [{"name": "k", "value": "v"}]}
    ]
    assert storage_state([], "no")["origins"] == []
