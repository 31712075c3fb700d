"""Header sets: what a session's browser says of itself, drawn once when the session is made.

A source of your own is a function that takes a `random.Random` and returns a mapping of header
names to values, or a class whose instances have such a method ``draw``; name it in
SESSION_FILTER_IDENTITY by its import path. An empty mapping means: Scrapy's own headers.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from fake_useragent import FakeUserAgent

from scrapy_session_filter.browsers import OLDEST, browser_headers, recognise
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.fingerprints import BrowserforgeSource
from scrapy_session_filter.loading import accepts, load
from scrapy_session_filter.sendable import UnsendableHeaders, check_header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger("scrapy_session_filter")

SETTING = "SESSION_FILTER_IDENTITY"


class IdentitySource(Protocol):
    """Gives header sets."""

    def draw(self, rng: Random) -> Mapping[str, str]:
        """Return the headers of one more visitor, chosen with ``rng``; must not block."""
        ...


def check_headers(headers: object) -> Mapping[str, str]:
    """Return a header set if it can be sent as it is, else raise `UnsendableHeaders`."""
    if not isinstance(headers, Mapping):
        msg = f"a mapping of header names to values, not {type(headers).__name__}"
        raise UnsendableHeaders(msg)
    for name, value in headers.items():
        check_header(name, value)
    if headers and not any(name.lower() == "user-agent" for name in headers):
        msg = "a User-Agent among the headers (or no headers at all, for Scrapy's own)"
        raise UnsendableHeaders(msg)
    return headers


class FakeUserAgentSource:
    """User agents from the fake-useragent package, by their share, with headers that fit them.

    ``platform`` is the package's: ``"desktop"``, ``"mobile"`` or ``"tablet"``. ``languages`` go
    into Accept-Language. Left out are browsers whose other headers are not known, and those much
    older than the newest of their kind. Sessions of one user agent share one read-only mapping.
    """

    def __init__(
        self, platform: str = "desktop", languages: Sequence[str] = ("en-US", "en")
    ) -> None:
        self.platform = platform
        self.languages = tuple(languages)

    def draw(self, rng: Random) -> Mapping[str, str]:
        """Return one of the header sets; the first call reads the package's data (0.1 s)."""
        header_sets, cumulated = _header_sets(self.platform, self.languages)
        return rng.choices(header_sets, cum_weights=cumulated)[0]


@lru_cache(maxsize=8)
def _header_sets(
    platform: str, languages: tuple[str, ...]
) -> tuple[Sequence[Mapping[str, str]], Sequence[float]]:
    """Return the header sets of a platform, and their shares added up."""
    shares: dict[str, float] = {}
    for record in FakeUserAgent(platforms=[platform]).data_browsers:
        if record["type"] == platform:
            user_agent = record["useragent"]
            shares[user_agent] = shares.get(user_agent, 0.0) + record["percent"]
    browsers = {ua: browser for ua in shares if (browser := recognise(ua))}
    newest = {
        engine: max((b.major for b in browsers.values() if b.engine == engine), default=0)
        for engine in OLDEST
    }
    kept = {
        ua: browser
        for ua, browser in browsers.items()
        if browser.major >= newest[browser.engine] - OLDEST[browser.engine]
    }
    if not kept or sum(shares[ua] for ua in kept) <= 0:
        # The package itself would hand out one built-in Edge 122 for everybody.
        expected = f"fake-useragent to know {platform} browsers"
        raise ConfigurationError(SETTING, "fake-useragent", expected)
    header_sets = tuple(
        check_headers(MappingProxyType(browser_headers(ua, browser, languages)))
        for ua, browser in kept.items()
    )
    return header_sets, tuple(accumulate(shares[ua] for ua in kept))


class _CheckedSource:
    """A user's source: what it gives is checked each time, and a failure does not stop a crawl."""

    def __init__(self, name: str, draw: Callable[[Random], object]) -> None:
        self._name = name
        self._draw = draw
        self._last: Mapping[str, str] | None = None

    def draw(self, rng: Random) -> Mapping[str, str]:
        """Return a checked header set; the last good one where the source has come to fail.

        Raises `ConfigurationError` while there is no good one.
        """
        try:
            headers = self._draw(rng)
            if inspect.iscoroutine(headers):
                headers.close()  # else Python warns that it was never awaited
            checked = check_headers(headers)
        except Exception as error:
            if self._last is None:
                expected = f"it to give headers, but it raised {type(error).__name__}: {error}"
                if isinstance(error, UnsendableHeaders):
                    expected = f"it to give {error}"
                raise ConfigurationError(SETTING, self._name, expected) from error
            logger.exception("%s = %r failed; its last headers are used", SETTING, self._name)
            return self._last
        if self._last is None and not checked:
            logger.info("%s = %r gives no headers: Scrapy's own are sent", SETTING, self._name)
        self._last = checked
        return checked


class NoIdentity:
    """No headers of a session's own: Scrapy's are sent."""

    def draw(self, rng: Random) -> Mapping[str, str]:
        """Return nothing."""
        return _NO_HEADERS


_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def identity_source(value: object) -> IdentitySource:
    """Return the source that SESSION_FILTER_IDENTITY means.

    ``value`` is ``"fake-useragent"``, ``"browserforge"`` (an extra), None for Scrapy's own headers,
    an import path, a function, a class or an instance. A header set is drawn at once, so that a source
    that cannot work raises `ConfigurationError` here.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in {"", "none"}):
        return NoIdentity()
    if value == "fake-useragent":
        source: IdentitySource = FakeUserAgentSource()
    elif value == "browserforge":
        source = _browserforge()
    else:
        source = _source_of_user(value)
    source.draw(Random())
    return source


def _browserforge() -> IdentitySource:
    try:
        source = BrowserforgeSource()
        source.draw(Random())
    except ImportError as error:
        expected = f"pip install 'scrapy-session-filter[browserforge]' first ({error})"
        raise ConfigurationError(SETTING, "browserforge", expected) from error
    except Exception as error:  # its data may be damaged, or of another version
        expected = f"browserforge to give headers ({type(error).__name__}: {error})"
        raise ConfigurationError(SETTING, "browserforge", expected) from error
    return source


def _source_of_user(value: object) -> IdentitySource:
    expected = (
        "'fake-useragent', 'browserforge', None, or the import path of a function that takes a"
        " random.Random or of a class with such a method 'draw'"
    )
    if isinstance(value, str):
        name, source = value, load(value, setting=SETTING, expected=expected)
    else:
        name, source = getattr(value, "__qualname__", type(value).__name__), value
    if isinstance(source, type):
        if not accepts(source):
            raise ConfigurationError(SETTING, name, f"{expected}; the class needs arguments")
        try:
            source = source()
        except Exception as error:
            reason = f"a class that can be made; it raised {type(error).__name__}: {error}"
            raise ConfigurationError(SETTING, name, reason) from error
    draw = getattr(source, "draw", source)
    if not callable(draw) or not accepts(draw, Random()):
        raise ConfigurationError(SETTING, name, expected)
    return _CheckedSource(name, draw)
