"""Typed values out of settings, which are Python objects in a file and texts on a command line.

A reader takes the setting's name and its value and returns what is meant, or raises
`ConfigurationError`. What Scrapy's own typed getters accept is accepted, bare nonsense is not: a
``True`` is no number, a NaN no duration.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.proxies import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    _T = TypeVar("_T")
    Reader = Callable[[str, object], _T]

_WHOLE = re.compile(r"\s*[+-]?\d{1,18}\s*", re.ASCII)
_FLAGS = {"1": True, "true": True, "True": True, "0": False, "false": False, "False": False}
_LARGEST_STATUS = 999


def shown(value: object) -> object:
    """Return a setting's value as an error may show it: short, and without credentials."""
    if isinstance(value, str):
        text = mask(value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**20 else "a huge number"
    return f"{type(value).__name__} object"


def flag(name: str, value: object) -> bool:
    """Read a truth value: a bool, 0, 1, or one of those as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, str)) and (text := str(value).strip()) in _FLAGS:
        return _FLAGS[text]
    raise ConfigurationError(name, shown(value), "True or False")


def whole(low: int, high: int) -> Reader[int]:
    """Make a reader of whole numbers from ``low`` to ``high``."""

    def read(name: str, value: object) -> int:
        number = None
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str) and _WHOLE.fullmatch(value):
            number = int(value)
        if number is None or not low <= number <= high:
            raise ConfigurationError(name, shown(value), f"a whole number from {low} to {high}")
        return number

    return read


def seconds(low: float, high: float) -> Reader[float]:
    """Make a reader of durations from ``low`` to ``high`` seconds."""

    def read(name: str, value: object) -> float:
        number = math.nan
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = math.nan
        if not low <= number <= high:  # so is no NaN
            expected = f"a number of seconds from {low:g} to {high:.15g}"
            raise ConfigurationError(name, shown(value), expected)
        return number

    return read


def choice(*options: str) -> Reader[str]:
    """Make a reader of one of some words."""

    def read(name: str, value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in options:
            return value.strip().lower()
        raise ConfigurationError(name, shown(value), " or ".join(map(repr, options)))

    return read


def anything(name: str, value: object) -> object:  # noqa: ARG001 - of one form with the others
    """Leave the value to whom it concerns."""
    return value


def statuses(name: str, value: object) -> tuple[int | str, ...] | None:
    """Read a list of HTTP statuses: ints, ranges as ``"494-499"``, and ``">=400"``; None: unset."""
    if value is None:
        return None
    expected = 'a list of statuses from 100 to 999: ints, ranges as "494-499", or ">=400"'
    items = listed(name, value, expected)
    for item in items:
        first, last = _status_range(item)
        if not 100 <= first <= last <= _LARGEST_STATUS:
            raise ConfigurationError(name, shown(item), expected)
    return tuple(int(i) if isinstance(i, str) and i.strip().isdigit() else i for i in items)


def _status_range(item: object) -> tuple[int, int]:
    """Return the first and last status meant; (0, 0) for what means none."""
    if isinstance(item, int) and not isinstance(item, bool):
        return item, item
    match = isinstance(item, str) and re.fullmatch(
        r"\s*(?:>=\s*(?P<least>\d{3})|(?P<first>\d{3})(?:\s*-\s*(?P<last>\d{3}))?)\s*",
        item,
        re.ASCII,
    )
    if not match:
        return 0, 0
    if match["least"]:
        return int(match["least"]), _LARGEST_STATUS
    return int(match["first"]), int(match["last"] or match["first"])


def markers(name: str, value: object) -> tuple[bytes, ...]:
    """Read a list of byte strings that are not empty; texts stand for their UTF-8."""
    expected = "a list of byte strings, none of them empty"
    found = tuple(
        item.encode() if isinstance(item, str) else item for item in listed(name, value, expected)
    )
    for item in found:
        if not isinstance(item, bytes) or not item.strip():
            raise ConfigurationError(name, shown(item), expected)
    return found


def priorities(name: str, value: object) -> dict[object, float | None]:
    """Read a component priority dictionary."""
    expected = "a dictionary of components or their import paths to numbers, or None for off"
    table = mapping(name, value, expected)
    for key, priority in table.items():
        fits = isinstance(priority, (int, float)) and not isinstance(priority, bool)
        if not isinstance(key, str) and not callable(key):
            raise ConfigurationError(name, shown(key), expected)
        if priority is not None and not (fits and math.isfinite(priority)):
            raise ConfigurationError(name, {shown(key): shown(priority)}, expected)
    return table


def mapping(name: str, value: object, expected: str) -> dict[Any, Any]:
    """Read a dictionary; on the command line it is JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ConfigurationError(name, shown(value), expected) from None
    if not isinstance(value, Mapping):  # BaseSettings is one
        raise ConfigurationError(name, shown(value), expected)
    return dict(value)


def listed(name: str, value: object, expected: str) -> Iterable[Any]:
    """Read a list's items; a text is JSON if it begins with a bracket, else split at commas."""
    if isinstance(value, str):
        if not value.strip():
            return ()
        if not value.lstrip().startswith("["):
            return tuple(item.strip() for item in value.split(","))
        try:
            value = json.loads(value)
        except ValueError:
            raise ConfigurationError(name, shown(value), expected) from None
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(name, shown(value), expected)
    return tuple(value)
