"""JSON that this program has written, or that anybody may have."""

from __future__ import annotations

import json
import math
from typing import Any

from scrapy_session_filter.exceptions import InvalidRow


def read(data: bytes, *, own: bool = False) -> Any:
    """Return the value of a JSON text without blanks around it; raises `InvalidRow`.

    Refused is what exhausts a parser (deep nesting, numbers of thousands of digits) and, unless it is
    known to be our ``own``, what parsers read differently: a key twice, NaN, a number beyond the
    range of floats.
    """
    try:
        text = data.decode("utf-8")
        value, end = (_plain if own else _strict).raw_decode(text)
    except (ValueError, RecursionError) as error:
        msg = "not JSON of ours"
        raise InvalidRow(msg) from error
    if end != len(text):
        msg = "more than one JSON value"
        raise InvalidRow(msg)
    return value


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
