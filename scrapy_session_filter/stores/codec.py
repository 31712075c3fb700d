"""Rows and states as bytes: JSON with limits, and checksums that notice a single changed bit."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import InvalidRow

if TYPE_CHECKING:
    from scrapy_session_filter.session import Row

_KEY_LIMIT = 2048  # characters of a site, session id, exit or endpoint key


def encode(value: dict[str, Any], limit: int) -> bytes:
    """Return a row or state as compact JSON; raises `InvalidRow` if it cannot be kept."""
    try:
        data = json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"not plain JSON: {error}"
        raise InvalidRow(msg) from error
    if len(data) > limit:
        msg = f"{len(data)} bytes, at most {limit} are kept"
        raise InvalidRow(msg)
    return data


def decode(data: bytes, limit: int) -> dict[str, Any]:
    """Return what `encode` was given; raises `InvalidRow` for anything else.

    For bytes that anybody may have written. Refused are also JSON that parsers read differently (a
    key twice, NaN, a number beyond the range of floats) and what exhausts a parser (deep nesting,
    numbers of thousands of digits).
    """
    value = _decode(data, limit, _plain)
    with suppress(InvalidRow):
        if encode(value, limit) == data:  # then it can be read in no other way
            return value
    return _decode(data, limit, _strict)


def decode_own(data: bytes, limit: int) -> dict[str, Any]:
    """Return what `encode` was given, for bytes whose checksum says so; in half the time."""
    return _decode(data, limit, _plain)


def _decode(data: bytes, limit: int, decoder: json.JSONDecoder) -> dict[str, Any]:
    if len(data) > limit:
        msg = f"{len(data)} bytes, at most {limit} are read"
        raise InvalidRow(msg)
    try:
        text = data.decode("utf-8")
        value, end = decoder.raw_decode(text)
    except (ValueError, RecursionError) as error:
        msg = "not JSON of ours"
        raise InvalidRow(msg) from error
    if not isinstance(value, dict) or end != len(text):
        msg = "not one JSON object"
        raise InvalidRow(msg)
    return value


def row_key(row: Row) -> tuple[str, str, str]:
    """Return (site, id, exit) of a row; raises `InvalidRow` where one cannot be a key."""
    return text_key(row.get("site")), text_key(row.get("id")), text_key(row.get("exit"))


def text_key(value: object) -> str:
    """Return a text that every store can hold as a key; raises `InvalidRow` for another."""
    if not isinstance(value, str) or not 0 < len(value) <= _KEY_LIMIT or "\0" in value:
        msg = f"a key must be a text of 1 to {_KEY_LIMIT} characters without NUL"
        raise InvalidRow(msg)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        msg = "a key must be a text that UTF-8 can hold"
        raise InvalidRow(msg) from error
    return value


def checksum(table: str, keys: tuple[str, ...], data: bytes = b"") -> bytes:
    """Return 8 bytes of BLAKE2b over a table's name, a row's keys and its data."""
    return blake2b("\0".join((table, *keys, "")).encode() + data, digest_size=8).digest()


def is_intact(sum_: object, table: str, keys: tuple[str, ...], data: bytes = b"") -> bool:
    """Return whether a row is what was written; False also where a value's type has changed."""
    try:
        return checksum(table, keys, data) == sum_
    except (TypeError, ValueError):
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        msg = "a key stands twice"
        raise ValueError(msg)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = "a number out of range"
        raise ValueError(msg)
    return value


def _no_constant(text: str) -> float:
    msg = f"{text} is not JSON"
    raise ValueError(msg)


_plain = json.JSONDecoder()
_strict = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant
)
