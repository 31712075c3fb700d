"""Objects that users name by their import path, and whether they can be called as needed."""

from __future__ import annotations

import inspect
import pkgutil
import re
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*[.:][^\W\d]\w*")


def is_import_path(text: str) -> bool:
    """Whether a text has the form ``package.module.name`` (or ``package.module:name``)."""
    return _IMPORT_PATH.fullmatch(text) is not None


def load(path: str, *, setting: str, expected: str) -> Any:
    """Return what an import path names.

    Raises `ConfigurationError`, with the reason, where it cannot be imported for whatever cause.
    """
    if not is_import_path(path):
        raise ConfigurationError(setting, "***" if "@" in path else path, expected)
    try:
        return pkgutil.resolve_name(path)
    except Exception as error:
        reason = f"{expected} (importing it failed: {type(error).__name__}: {error})"
        raise ConfigurationError(setting, path, reason) from error


def accepts(function: Callable[..., object], *arguments: object, **named: object) -> bool:
    """Whether a callable can take these arguments; True where it hides its signature."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables of C have none
        return True
    try:
        signature.bind(*arguments, **named)
    except TypeError:
        return False
    return True
