"""The fields of a saved session, checked as they are read back.

Each reader raises `InvalidRow` where a field is missing, has the wrong type or is out of range.
"""

from __future__ import annotations

import re
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from scrapy_session_filter import plain_json
from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.sendable import UnsendableHeaders, check_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeGuard

LARGEST = 2**53
"""Of counts and of seconds: what JSON readers keep exact."""

_ID = re.compile(r"[a-z0-9]{12}\Z")
_HEADER_SETS = 4096  # that are remembered, to be shared
_COUNTS = ("uses", "oks", "blocks", "errors")
_counts_of = itemgetter(*_COUNTS)


class Unread:
    """A value of a row that is JSON text still: it may never be needed, or is alike in many rows.

    It equals the value it stands for.
    """

    __slots__ = ("text",)
    __hash__ = None  # type: ignore[assignment]  # nor has that value

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return bool(self.read() == (other.read() if isinstance(other, Unread) else other))

    def read(self) -> Any:
        """Return the value; raises `InvalidRow` as `plain_json.read` does."""
        return plain_json.read(self.text)


def read_whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of which nothing is `Unread`."""
    return {
        name: value.read() if isinstance(value, Unread) else value for name, value in row.items()
    }


def read_name(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return a session's id and site."""
    id_, site = row.get("id"), row.get("site")
    if type(id_) is not str or not _ID.match(id_):
        msg = "id must be 12 characters of [a-z0-9]"
        raise InvalidRow(msg)
    if type(site) is not str or not site:
        msg = "site must be a text"
        raise InvalidRow(msg)
    return id_, site


def read_counts(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return its uses, oks, blocks and errors."""
    try:
        counts: tuple[int, int, int, int] = _counts_of(row)
    except KeyError as error:
        msg = f"{error} is missing"
        raise InvalidRow(msg) from error
    for value in counts:
        if type(value) is not int or not 0 <= value <= LARGEST:
            msg = f"{', '.join(_COUNTS)} must be counts"
            raise InvalidRow(msg)
    return counts


def is_time(value: Any) -> TypeGuard[float]:
    """Whether a value from a store can be a time."""
    kind = type(value)
    return (kind is float or kind is int) and -LARGEST <= value <= LARGEST  # which no NaN is


def read_seconds(row: Mapping[str, Any], name: str) -> float:
    """Return a time."""
    value = row.get(name)
    if is_time(value):
        return float(value)
    msg = f"{name} must be a time in seconds"
    raise InvalidRow(msg)


def read_headers(row: Mapping[str, Any]) -> dict[str, str]:
    """Return its headers; sessions whose headers have the same text share them."""
    value = row.get("headers")
    if not isinstance(value, Unread):
        return _checked_headers(value)
    known = _header_sets.get(value.text)
    if known is None:
        known = _checked_headers(value.read())
        if len(_header_sets) >= _HEADER_SETS:
            _header_sets.clear()
        _header_sets[value.text] = known
    return known


_header_sets: dict[bytes, dict[str, str]] = {}


def _checked_headers(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        msg = "headers must map names to values"
        raise InvalidRow(msg)
    try:
        for name, text in value.items():
            check_header(name, text)
    except UnsendableHeaders as error:
        msg = f"headers must hold {error}"
        raise InvalidRow(msg) from error
    return value


def read_optional(row: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """Return a field that is of a type, None or missing."""
    value = row.get(name)
    if value is None or isinstance(value, kind):
        return value
    msg = f"{name} has the wrong type"
    raise InvalidRow(msg)
