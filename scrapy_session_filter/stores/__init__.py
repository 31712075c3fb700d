"""Where pools live between and beside processes; `store_from_uri` picks one by its address."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.stores.base import SETTING

if TYPE_CHECKING:
    from scrapy_session_filter.stores.base import SessionStore

STORES = {
    "memory": ("scrapy_session_filter.stores.memory", "MemoryStore"),
    "sqlite": ("scrapy_session_filter.stores.sqlite", "SQLiteStore"),
    "redis": ("scrapy_session_filter.stores.redis", "RedisStore"),
    "rediss": ("scrapy_session_filter.stores.redis", "RedisStore"),
}
"""What the part of ``SESSION_FILTER_STORE`` before its first colon stands for: module and class."""

ALLOWED = "'memory:', 'sqlite:', 'sqlite:PATH', 'redis://...' or 'rediss://...'"


def store_from_uri(uri: str, *, default_path: str) -> SessionStore:
    """Return the store, not yet open, that a ``SESSION_FILTER_STORE`` value names.

    ``default_path`` is the file of ``sqlite:`` without a path. Drivers are imported here, when they
    are used. Raises `ConfigurationError` for an unknown scheme, a missing driver or an address that
    cannot be understood.
    """
    if not isinstance(uri, str):
        raise ConfigurationError(SETTING, uri, ALLOWED)
    scheme, colon, _ = uri.partition(":")
    if not colon or scheme not in STORES:
        raise ConfigurationError(SETTING, mask_uri(uri), ALLOWED)
    module, name = STORES[scheme]
    try:
        store: type[SessionStore] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("scrapy_session_filter"):
            raise
        raise ConfigurationError(
            SETTING,
            mask_uri(uri),
            f"the {error.name!r} package: pip install 'scrapy-session-filter[{scheme[:5]}]'",
        ) from error
    return store.from_uri(uri, default_path)


def mask_uri(uri: str) -> str:
    """Return an address without what may be secret in it: user, password and query values."""
    masked = re.sub(r":(//)?.*@", r":\1***@", uri, count=1, flags=re.DOTALL)
    return re.sub(r"=[^&#]*", "=***", masked) if "?" in masked else masked
