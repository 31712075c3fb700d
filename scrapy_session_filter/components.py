"""Settings that name parts of a crawl: resolved and checked before the first request."""

from __future__ import annotations

import inspect
from typing import Any

from scrapy.utils.misc import load_object

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.loading import accepts, load
from scrapy_session_filter.policies import POLICIES, Policy
from scrapy_session_filter.reading import mapping, priorities, shown
from scrapy_session_filter.stores import ALLOWED, STORES
from scrapy_session_filter.verdicts import BUILT_IN, Judge
from scrapy_session_filter.verdicts.expect import ExpectDetector


def read_policy(name: str, value: object) -> type[Policy]:
    """Return the policy class of a name, or of an import path."""
    expected = f"{', '.join(map(repr, POLICIES))}, or the import path of a subclass of Policy"
    policy = value
    if isinstance(value, str):
        policy = load(POLICIES.get(value, value), setting=name, expected=expected)
    if (
        not isinstance(policy, type)
        or not issubclass(policy, Policy)
        or inspect.isabstract(policy)
        or not accepts(policy, object())
    ):
        raise ConfigurationError(name, shown(value), expected)
    return policy


def read_queue(name: str, value: object) -> type:
    """Return the class of a request queue."""
    expected = "the import path of a priority queue class"
    queue = load(value, setting=name, expected=expected) if isinstance(value, str) else value
    if not isinstance(queue, type):
        raise ConfigurationError(name, shown(value), expected)
    return queue


def read_detectors(name: str, value: object) -> tuple[Any, ...]:
    """Return the detectors in order: the built-in ones, changed as the dictionary says."""
    expected = "import paths of detectors"
    merged: dict[Any, float] = {load_object(path): order for path, order in BUILT_IN.items()}
    for key, order in priorities(name, value).items():
        detector = load(key, setting=name, expected=expected) if isinstance(key, str) else key
        wanted = () if isinstance(detector, type) else (object(),)
        makes_itself = hasattr(detector, "from_config")
        if not callable(detector) or not (makes_itself or accepts(detector, *wanted)):
            expected = "detectors: callables that take an answer, or classes that make such"
            raise ConfigurationError(name, shown(key), expected)
        merged.pop(detector, None)
        if order is not None:
            merged[detector] = order
    return tuple(sorted(merged, key=lambda detector: merged[detector]))


def read_expect(name: str, value: object) -> dict[str, Any]:
    """Return what good pages must hold, by URL pattern; texts stand for their UTF-8 bytes."""
    expected = "URL patterns, each with css, bytes or min_size"
    table = {
        pattern: {key: _bytes(item) if key == "bytes" else item for key, item in wanted.items()}
        if isinstance(wanted, dict)
        else wanted
        for pattern, wanted in mapping(name, value, expected).items()
    }
    try:
        ExpectDetector(table)
    except ConfigurationError as error:
        raise ConfigurationError(name, shown(value), expected) from error
    return table


def _bytes(value: object) -> object:
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    return value.encode() if isinstance(value, str) else value


def read_rules(name: str, value: object) -> dict[str, Any]:
    """Return the user's own rules, and None for those that are switched off."""
    table = mapping(name, value, "a dict of rule names to rules, or None for off")
    Judge(rules=table)
    return table


def read_store(name: str, value: object) -> str:
    """Return the address of a store, if it is of a known kind."""
    if not isinstance(value, str) or ":" not in value or value.partition(":")[0] not in STORES:
        raise ConfigurationError(name, shown(value), ALLOWED)
    return value
