"""Which source the two settings about proxies mean."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.loading import is_import_path
from scrapy_session_filter.proxies.reloading import CallableSource, FileSource
from scrapy_session_filter.proxies.sources import (
    PROXIES,
    PROXY,
    DirectSource,
    GatewaySource,
    ListSource,
)

if TYPE_CHECKING:
    from scrapy_session_filter.proxies.parsing import Wire
    from scrapy_session_filter.proxies.sources import ProxySource


def proxy_source(
    proxy: object, proxies: object, *, refresh: float = 300.0, wire: Wire | None = None
) -> ProxySource:
    """Return the source that SESSION_FILTER_PROXY or SESSION_FILTER_PROXIES means, unchecked.

    Raises `ConfigurationError` if both are given, or neither, or no source has such a form.
    """
    if proxy in (None, "") and proxies in (None, ""):
        expected = (
            "a gateway URL, or proxies in SESSION_FILTER_PROXIES, or 'direct' for sessions without"
            " a proxy"
        )
        raise ConfigurationError(PROXY, None, expected)
    if proxy not in (None, "") and proxies not in (None, ""):
        raise ConfigurationError(PROXY, "***", f"only one of {PROXY} and {PROXIES}")
    if proxies in (None, ""):
        if not isinstance(proxy, str):
            expected = f"a gateway URL or 'direct', not {type(proxy).__name__}"
            raise ConfigurationError(PROXY, "***", expected)
        return DirectSource() if proxy.strip().lower() == "direct" else GatewaySource(proxy, wire)
    if isinstance(proxies, (list, tuple, set, frozenset)):
        return ListSource(proxies, wire)
    if isinstance(proxies, os.PathLike):
        return FileSource(proxies, wire, refresh=refresh)
    if callable(proxies):
        return CallableSource(proxies, wire, refresh=refresh)
    if not isinstance(proxies, str):
        expected = "a list of proxy URLs, the path of a file or the import path of a callable"
        raise ConfigurationError(PROXIES, type(proxies).__name__, expected)
    return _source_of_text(proxies.strip(), wire, refresh)


def _source_of_text(text: str, wire: Wire | None, refresh: float) -> ProxySource:
    if text.startswith("["):
        with suppress(ValueError):  # no JSON: then perhaps an IPv6 address
            return ListSource(json.loads(text), wire)
    with suppress(ValueError):  # a NUL in it
        if Path(text).expanduser().exists():
            return FileSource(text, wire, refresh=refresh)
    if "://" in text or "@" in text or re.search(r":\d+(,|$)", text):
        return ListSource(text.split(","), wire)
    if is_import_path(text) and not text.endswith((".txt", ".csv", ".lst", ".list")):
        return CallableSource(text, wire, refresh=refresh)
    return FileSource(text, wire, refresh=refresh)
