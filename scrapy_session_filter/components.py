"""Settings that name parts of a crawl: resolved and checked before the first request."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from scrapy.utils.misc import load_object

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.loading import accepts, load
from scrapy_session_filter.policies import POLICIES, Policy
from scrapy_session_filter.reading import listed, mapping, priorities, shown
from scrapy_session_filter.stores import ALLOWED, STORES
from scrapy_session_filter.targets import known_targets
from scrapy_session_filter.verdicts import BUILT_IN, Judge
from scrapy_session_filter.verdicts.expect import ExpectDetector

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_session_filter.reading import Reader


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


def read_hook(*arguments: object) -> Reader[Callable[..., Any]]:
    """Make a reader of functions that take so many arguments, given as such or by import path."""
    expected = f"the import path of a function that takes {len(arguments)} arguments"
    if len(arguments) == 1:
        expected = expected.removesuffix("s")

    def read(name: str, value: object) -> Callable[..., Any]:
        hook: Any = (
            load(value, setting=name, expected=expected) if isinstance(value, str) else value
        )
        if callable(hook) and accepts(hook, *arguments):
            return hook  # type: ignore[no-any-return]
        raise ConfigurationError(name, shown(value), expected)

    return read


def read_targets(name: str, value: object) -> tuple[str, ...]:
    """Return curl_cffi's names of the browsers to impersonate, each of one fixed version."""
    try:
        known = known_targets()
    except ImportError as error:
        expected = f"pip install 'scrapy-session-filter[impersonate]' first ({error})"
        raise ConfigurationError(name, shown(value), expected) from error
    expected = "a list of targets of curl_cffi, such as 'chrome', 'firefox' or 'safari184'"
    found = tuple(listed(name, value, expected))
    for item in found:
        if not isinstance(item, str) or item not in known:
            raise ConfigurationError(name, shown(item), expected)
    return tuple(known[item] for item in found)


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


CONTEXT_SETTING = "SESSION_FILTER_BROWSER_CONTEXT"
OWNED = ("proxy", "storage_state", "user_agent", "user_data_dir", "http_credentials")
"""Arguments of a browser context that are the session's, or that would undo its isolation."""


def read_browser_context(name: str, value: object) -> Any:
    """Return arguments of browser contexts, or the function that says which a session gets."""
    expected = (
        f"a dict of arguments of Playwright's Browser.new_context without {', '.join(OWNED)}, or the"
        " import path of a function(session) that returns one"
    )
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        value = load(value, setting=name, expected=expected)
    if callable(value) and accepts(value, object()):
        return value
    try:
        return check_context(mapping(name, value, expected))
    except ValueError as error:
        raise ConfigurationError(name, shown(value), expected) from error


def check_context(kwargs: object) -> dict[str, Any]:
    """Return arguments of a browser context; raises ValueError where they cannot be kept or used."""
    if inspect.iscoroutine(kwargs):
        kwargs.close()  # else Python warns that it was never awaited
    if not isinstance(kwargs, dict) or any(name in kwargs for name in OWNED):
        msg = f"a dict without {', '.join(OWNED)} was expected, not {kwargs!r:.80}"
        raise ValueError(msg)
    try:
        return dict(json.loads(json.dumps(kwargs)))
    except TypeError as error:
        msg = f"they must be plain values ({error})"
        raise ValueError(msg) from error


def read_rules(name: str, value: object) -> dict[str, Any]:
    """Return the user's own rules, and None for those that are switched off."""
    table = mapping(name, value, "a dict of rule names to rules, or None for off")
    if not table:
        return table  # a judge takes 20 ms to make
    try:
        Judge(rules=table)
    except ConfigurationError as error:
        if "@" not in repr(error.value):
            raise
        # a proxy's URL that got into the wrong setting
        raise ConfigurationError(error.setting, shown(error.value), error.expected) from None
    return table


def read_store(name: str, value: object) -> str:
    """Return the address of a store, if it is of a known kind."""
    if not isinstance(value, str) or ":" not in value or value.partition(":")[0] not in STORES:
        raise ConfigurationError(name, shown(value), ALLOWED)
    return value
