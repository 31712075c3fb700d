"""Rows as bytes: whatever comes in, what comes out is equal, or an error of ours."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.rows import Unread, read_whole
from scrapy_session_filter.stores.base import MAX_ROW_BYTES
from scrapy_session_filter.stores.codec import (
    checksum,
    decode,
    decode_rows,
    encode,
    is_intact,
    row_key,
)
from tests.stores.places import row

LIMIT = 4096
LARGE = ("headers", "cookies")

texts = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=6
)
objects = st.dictionaries(texts, values, max_size=4)


@given(objects)
def test_comes_back_equal(value: dict[str, Any]) -> None:
    """What can be written is read back equal, by either reader, and stays below the limit."""
    try:
        data = encode(value, LIMIT)
    except InvalidRow:
        return
    assert len(data) <= LIMIT
    assert decode(data, LIMIT) == decode(data, LIMIT, own=True) == value


@given(st.binary(max_size=200) | st.text().map(str.encode) | values.map(json.dumps).map(str.encode))
def test_reads_anything(data: bytes) -> None:
    """Bytes of any kind are read or refused with an error of ours."""
    for own in (True, False):
        with suppress(InvalidRow):
            assert isinstance(decode(data, LIMIT, own=own), dict)


cut_at = st.sampled_from(["headers", "born", "cookies", "learnt", '","cookies":['])
nested = st.recursive(
    scalars | cut_at, lambda inner: st.lists(inner) | st.dictionaries(cut_at, inner), max_leaves=8
)
sessions = st.builds(
    lambda before, fields, after: {**before, **fields, **after},
    st.dictionaries(st.sampled_from("ab"), nested),
    st.fixed_dictionaries(dict.fromkeys(("headers", "born", "cookies", "learnt"), nested)),
    st.dictionaries(st.sampled_from("yz"), nested),
)
"""Rows in the order of `Session.to_row`, in which names and texts at which they are cut are anywhere."""


@given(st.lists(sessions, max_size=5), st.booleans())
def test_sessions_come_back_equal(rows: list[dict[str, Any]], own: bool) -> None:
    """What is cut out of sessions, to be read later, is what was there, whatever is in it."""
    texts, saved = [], []
    for one in rows:
        with suppress(InvalidRow):
            texts.append(encode(one, MAX_ROW_BYTES))
            saved.append(one)
    found = list(decode_rows(texts, own=own))
    assert found == saved
    assert [read_whole(one) for one in found if one] == saved


@pytest.mark.parametrize(
    "junk", [b"", b"{", b"}", b"[{}]", b"{},{}", b"1", b"\xff", b"{}" * 40_000]
)
def test_junk_among_sessions(junk: bytes) -> None:
    """What is no session leaves those read with it as they are, whose large parts wait to be read."""
    texts = [encode(row(n), MAX_ROW_BYTES) for n in range(3)]
    one, none, two, three = decode_rows([texts[0], junk, *texts[1:]])
    assert (one, none, two, three) == (row(0), None, row(1), row(2))
    assert all(isinstance(one[name], Unread) for one in decode_rows(texts) for name in LARGE if one)


def test_what_was_not_read_can_be_written() -> None:
    """A row is written as it was read, whether or not all of it was."""
    text = encode(row(1), MAX_ROW_BYTES)
    (found,) = decode_rows([text])
    assert found is not None
    assert json.loads(encode(found, MAX_ROW_BYTES)) == json.loads(text)


@given(values)
def test_looks_for_keys_in_anything(value: Any) -> None:
    """A row without usable keys is refused with an error of ours."""
    for one in ({"site": value, "id": "x", "exit": "y"}, {"id": value}, {}):
        with suppress(InvalidRow):
            assert row_key(one) == (value, "x", "y")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' * 50_000,
        b'{"a":' + b"9" * 4000 + b"9" * 1000 + b"}",
        b'{"a":1}x',
        b' {"a":1}',
        b"\xff",
        b"[{}]",
        b"",
    ],
    ids=range(12),
)
def test_refuses_ambiguous_json(data: bytes) -> None:
    """What parsers read differently, or choke on, is refused."""
    with pytest.raises(InvalidRow):
        decode(data, 10**6)


@given(st.binary(max_size=300), st.integers(min_value=0), st.integers(0, 7))
def test_one_bit_is_noticed(data: bytes, place: int, bit: int) -> None:
    """A checksum holds for what was written and for no other bytes, keys or table."""
    sum_ = checksum("sessions", ("site", "id"), data)
    assert is_intact(sum_, "sessions", ("site", "id"), data)
    assert not is_intact(sum_, "states", ("site", "id"), data)
    assert not is_intact(sum_, "sessions", ("sit", "eid"), data)
    if data:
        changed = bytearray(data)
        changed[place % len(data)] ^= 1 << bit
        assert not is_intact(sum_, "sessions", ("site", "id"), bytes(changed))


@pytest.mark.parametrize("value", [None, 5, "text", 1.5])
def test_another_type_is_not_intact(value: Any) -> None:
    """A value whose type was changed by damage does not raise, it is not intact."""
    assert not is_intact(value, "sessions", ("a",), b"")
    assert not is_intact(b"12345678", "sessions", (value, 5), value)  # type: ignore[arg-type]
