"""Proxy sessions for Scrapy: blocked ones are filtered out, pages retried, and the pool remembered."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scrapy_session_filter.addon import Addon
    from scrapy_session_filter.exceptions import (
        ConfigurationError,
        SessionFilterError,
        SessionFilterGiveUp,
        SessionFilterInitError,
        SessionFilterRefused,
        SessionFilterSessionGone,
        StoreError,
    )
    from scrapy_session_filter.extension import SessionFilterExtension
    from scrapy_session_filter.gate import ProxyGate
    from scrapy_session_filter.middleware import SessionFilterMiddleware, report_block
    from scrapy_session_filter.queue import SessionAwarePriorityQueue
    from scrapy_session_filter.verdict import About, Kind, Strength, Verdict
    from scrapy_session_filter.verdicts import judge

__all__ = [
    "About",
    "Addon",
    "ConfigurationError",
    "Kind",
    "ProxyGate",
    "SessionAwarePriorityQueue",
    "SessionFilterError",
    "SessionFilterExtension",
    "SessionFilterGiveUp",
    "SessionFilterInitError",
    "SessionFilterMiddleware",
    "SessionFilterRefused",
    "SessionFilterSessionGone",
    "StoreError",
    "Strength",
    "Verdict",
    "judge",
    "report_block",
]

_HOMES = {
    "addon": ("Addon",),
    "exceptions": (
        "ConfigurationError",
        "SessionFilterError",
        "SessionFilterGiveUp",
        "SessionFilterInitError",
        "SessionFilterRefused",
        "SessionFilterSessionGone",
        "StoreError",
    ),
    "extension": ("SessionFilterExtension",),
    "gate": ("ProxyGate",),
    "middleware": ("SessionFilterMiddleware", "report_block"),
    "queue": ("SessionAwarePriorityQueue",),
    "verdict": ("About", "Kind", "Strength", "Verdict"),
    "verdicts": ("judge",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the pure core then works without Scrapy."""
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
