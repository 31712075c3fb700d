"""Reading back what was saved: a value in its range, or None."""

from __future__ import annotations

from typing import Any


def number(value: Any, low: float = 0.0, high: float = 1e9) -> float | None:
    """Return a finite number of the range, None for anything else."""
    kind = type(value)
    if (kind is float or kind is int) and low <= value <= high:
        return float(value)
    return None


def numbers(values: list[Any]) -> list[float] | None:
    """Return finite numbers from 0 to 1e9, None where there is anything else."""
    for value in values:
        kind = type(value)
        if not ((kind is float or kind is int) and 0.0 <= value <= 1e9):
            return None
    return values


def count(value: object, most: int = 2**53) -> int | None:
    """Return a whole number from 0 to ``most``, None for anything else."""
    return value if type(value) is int and 0 <= value <= most else None


def odds(value: object) -> list[float] | None:
    """Return discounted counts [good, bad], None for anything else."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    good, bad = number(value[0]), number(value[1])
    return None if good is None or bad is None else [good, bad]
