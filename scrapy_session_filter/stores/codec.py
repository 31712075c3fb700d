"""Rows and states as bytes: JSON with limits, and checksums that notice a single changed bit."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from scrapy_session_filter import plain_json
from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.rows import Unread
from scrapy_session_filter.stores.base import MAX_ROW_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scrapy_session_filter.session import Row

_KEY_LIMIT = 2048  # characters of a site, session id, exit or endpoint key


def encode(value: dict[str, Any], limit: int) -> bytes:
    """Return a row or state as compact JSON; raises `InvalidRow` if it cannot be kept."""
    try:
        data = _encoder.encode(value).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"not plain JSON: {error}"
        raise InvalidRow(msg) from error
    if len(data) > limit:
        msg = f"{len(data)} bytes, at most {limit} are kept"
        raise InvalidRow(msg)
    return data


def _unread(value: object) -> Any:
    if isinstance(value, Unread):
        return value.read()
    msg = f"a {type(value).__name__}"
    raise TypeError(msg)


_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_unread)


def decode(data: bytes, limit: int, *, own: bool = False) -> dict[str, Any]:
    """Return what `encode` was given; raises `InvalidRow` for anything else.

    ``own``: a checksum says that we wrote it; else more is refused, see `plain_json.read`.
    """
    if len(data) > limit:
        msg = f"{len(data)} bytes, at most {limit} are read"
        raise InvalidRow(msg)
    value = plain_json.read(data, own=own)
    if not isinstance(value, dict):
        msg = "not a JSON object"
        raise InvalidRow(msg)
    return value


def decode_rows(texts: Sequence[bytes], *, own: bool = False) -> Iterator[Row | None]:
    """Yield a session for each text, its headers and cookies `Unread`; None for what is none.

    These two are most of a text, and needed when the session is picked. `Session.to_row` writes the
    fields in one order, so they can be cut out as they stand: within JSON every quote of a text is
    escaped. What is left of many is read at once; what was not written that way, whole.
    """
    cuts = list(map(_cut, texts))
    try:
        heads = plain_json.read(b"[%b]" % b",".join([head for head, _ in cuts]), own=own)
    except InvalidRow:
        heads = []
    if len(heads) != len(texts):
        heads = [None] * len(texts)
    for text, (_, unread), head in zip(texts, cuts, heads, strict=True):
        if (
            type(head) is dict
            and len(text) <= MAX_ROW_BYTES
            and head.keys().isdisjoint(unread)  # else something else than these was cut out
        ):
            head.update(unread)
            yield head
        else:
            try:
                yield decode(text, MAX_ROW_BYTES, own=own)
            except InvalidRow:
                yield None


def _cut(text: bytes) -> tuple[bytes, dict[str, Unread]]:
    unread = {}
    for name, start, stop, following in _CUTS:
        begin = text.find(start)
        end = text.find(stop, begin) + 1
        if begin >= 0 and text.startswith(following, end):
            unread[name] = Unread(text[begin + len(start) - 1 : end])
            text = text[:begin] + text[end:]
    return text, unread


_CUTS = (
    ("headers", b',"headers":{', b'},"', b',"born":'),
    ("cookies", b',"cookies":[', b'],"', b',"learnt":'),
)
"""How each begins and ends, and what follows."""


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
