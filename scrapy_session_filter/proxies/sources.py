"""Where proxies come from, as such; and the sources that never change.

A source is checked once, before the crawl: what cannot be used is refused with its line or place.
Sources that can change are asked again every ``refresh_interval`` seconds; from then on a failure
keeps the proxies there are and is logged.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.proxies.parsing import Note, Wire, parse_proxy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from scrapy_session_filter.proxies.endpoint import ProxyEndpoint

logger = logging.getLogger("scrapy_session_filter")

PROXY = "SESSION_FILTER_PROXY"
PROXIES = "SESSION_FILTER_PROXIES"

MAX_PROXIES = 1_000_000
"""Proxies a source may give; more are a mistake (a generator that never ends)."""


class ProxySource(ABC):
    """The proxies of a crawl, as they are now."""

    direct = False
    """Whether sessions have no proxy at all."""

    refresh_interval = 0.0
    """Seconds between two calls of `refresh`; 0: it never changes."""

    def __init__(self, setting: str = PROXIES, wire: Wire | None = None) -> None:
        self.setting = setting
        self.wire = wire or Wire()
        self._endpoints: tuple[ProxyEndpoint, ...] = ()

    @abstractmethod
    def check(self) -> None:
        """Read the proxies for the first time, as far as that can be done without waiting.

        Raises `ConfigurationError` where there is none to use.
        """

    def endpoints(self) -> Sequence[ProxyEndpoint]:
        """Return the current proxies, each once."""
        return self._endpoints

    @property
    def pending(self) -> bool:
        """Whether the first proxies are yet to come: await `refresh` before the first request."""
        return not self.direct and not self._endpoints

    async def refresh(self) -> bool:
        """Read the proxies again; returns whether they changed.

        While `pending`, a failure raises `ConfigurationError`; later it is logged and changes
        nothing.
        """
        return False

    def _parse(self, proxies: Iterable[tuple[str, object]]) -> tuple[ProxyEndpoint, ...]:
        """Parse proxies with their places, keep each once, and say once what there is to say."""
        notes: Counter[Note] = Counter()
        found: dict[ProxyEndpoint, None] = {}
        total = 0
        for where, proxy in proxies:
            total += 1
            if total > MAX_PROXIES:
                raise ConfigurationError(self.setting, "...", f"at most {MAX_PROXIES} proxies")
            endpoint = parse_proxy(
                proxy,
                setting=self.setting,
                where=where,
                wire=self.wire,
                note=lambda note: notes.update((note,)),
            )
            found[endpoint] = None
        if not found:
            raise ConfigurationError(self.setting, "no proxies", "at least one")
        if duplicates := total - len(found):
            notes[logging.INFO, "a proxy stands there more than once"] = duplicates
        for (level, text), times in notes.items():
            logger.log(level, "%s: %s (%d of %d)", self.setting, text, times, total)
        return tuple(_told_apart(found))

    def _replace(self, endpoints: tuple[ProxyEndpoint, ...]) -> bool:
        if set(endpoints) == set(self._endpoints):
            return False
        logger.info("%s: %d proxies, before %d", self.setting, len(endpoints), len(self._endpoints))
        self._endpoints = endpoints
        return True

    def _keep(self, error: ConfigurationError) -> bool:
        logger.error("%s; keeping the %d proxies there are", error, len(self._endpoints))
        return False


class DirectSource(ProxySource):
    """Sessions without a proxy: identities and cookies only."""

    direct = True

    def check(self) -> None:
        """Say what that means."""
        logger.warning(
            "%s = 'direct': sessions have no proxy, every request leaves from this machine's own"
            " address",
            PROXY,
        )


class GatewaySource(ProxySource):
    """One URL, in which ``{session}`` makes every session another user of the gateway."""

    def __init__(self, url: str, wire: Wire | None = None) -> None:
        super().__init__(PROXY, wire)
        self._url = url

    def check(self) -> None:
        """Read the URL; one without ``{session}`` is a list of one, with a warning."""
        endpoint = parse_proxy(self._url, setting=self.setting, wire=self.wire)
        if not endpoint.per_session:
            logger.warning(
                "%s holds no {session}: all sessions share one exit, %s", PROXY, endpoint.label
            )
        self._endpoints = (endpoint,)


class ListSource(ProxySource):
    """Proxies written out in the settings."""

    def __init__(self, proxies: Iterable[object], wire: Wire | None = None) -> None:
        super().__init__(PROXIES, wire)
        self._proxies = tuple(proxies)

    def check(self) -> None:
        """Read them all."""
        self._endpoints = self._parse(numbered(self._proxies))


def numbered(proxies: Iterable[object]) -> Iterator[tuple[str, object]]:
    """Pair each with its place, for error messages."""
    return ((f"item {number}", proxy) for number, proxy in enumerate(proxies, 1))


def _told_apart(endpoints: Collection[ProxyEndpoint]) -> Iterator[ProxyEndpoint]:
    """Give proxies that differ only in the password (where some hold the session) a key each.

    32 bits of the password's hash tell them apart: too few to find the password by.
    """
    uses = Counter(endpoint.key for endpoint in endpoints)
    taken = set(uses)
    for endpoint in endpoints:
        if uses[endpoint.key] == 1:
            yield endpoint
            continue
        text = endpoint.key + blake2b(endpoint.password.encode(), digest_size=4).hexdigest()
        while (key := blake2b(text.encode(), digest_size=8).hexdigest()) in taken:
            text += "+"
        taken.add(key)
        yield replace(endpoint, key=key)
