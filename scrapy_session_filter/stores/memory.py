"""`memory:`: pools that live as long as their process."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import ConfigurationError, InvalidRow, StoreError
from scrapy_session_filter.stores.base import (
    MAX_ROW_BYTES,
    MAX_SESSIONS,
    MAX_STATE_BYTES,
    SETTING,
    Batch,
    Claim,
    SessionStore,
)
from scrapy_session_filter.stores.codec import decode, encode, row_key, text_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from scrapy_session_filter.session import Row

logger = logging.getLogger(__name__)


class MemoryStore(SessionStore):
    """Keeps everything in this process, for its one owner, who may claim what it likes.

    Rows go in and out as copies and under the same limits as in the other stores.
    """

    def __init__(self) -> None:
        self._open = False
        self._sessions: dict[tuple[str, str], tuple[str, bytes]] = {}  # (site, id): exit, JSON
        self._removed: set[tuple[str, str]] = set()
        self._sites: dict[str, bytes] = {}
        self._endpoints: dict[str, bytes] = {}
        self._held: dict[str, set[str]] = {}  # site: exits
        self._token = 0
        self._applied: deque[str] = deque(maxlen=64)  # ids of the last batches

    @classmethod
    def from_uri(cls, uri: str, default_path: str) -> MemoryStore:  # noqa: ARG003 - needs no file
        """Build it from ``memory:``; it takes no path."""
        if uri != "memory:":
            raise ConfigurationError(SETTING, uri, "'memory:' without a path")
        return cls()

    def open(self) -> None:
        """Become the owner; what was kept before a `close` is still there."""
        self._open = True

    def claim(self, site: str, offered: Collection[str], most: int | None = None) -> Claim:
        """Grant every exit that is not held yet, at most ``most``."""
        self._check()
        held = self._held.setdefault(site, set())
        saved = (exit_ for (where, _), (exit_, _) in self._sessions.items() if where == site)
        free = [exit_ for exit_ in dict.fromkeys((*saved, *offered)) if exit_ not in held]
        granted = set(free[:most])
        if granted:
            self._token += 1
            held |= granted
        rows = [
            decode(data, MAX_ROW_BYTES, own=True)
            for (where, _), (exit_, data) in self._sessions.items()
            if where == site and exit_ in granted
        ]
        return Claim(self._token, granted, rows)

    def held(self, site: str) -> set[str]:
        """Return the exits that were claimed."""
        return set(self._held.get(site, ()))

    def alone(self) -> bool:
        """Return True: nobody else can reach it."""
        return True

    def renew(self) -> dict[str, set[str]]:
        """Lose nothing: there is no other owner."""
        self._check()
        return {}

    def release(self, site: str, exits: Collection[str]) -> None:
        """Make exits claimable again."""
        self._check()
        self._held.get(site, set()).difference_update(exits)

    def site_state(self, site: str) -> dict[str, Any] | None:
        """Return a copy of what was learnt of a site, or None."""
        self._check()
        data = self._sites.get(site)
        return None if data is None else decode(data, MAX_STATE_BYTES, own=True)

    def endpoint_states(self) -> dict[str, dict[str, Any]]:
        """Return copies of all endpoints' saved health."""
        self._check()
        return {key: decode(data, MAX_ROW_BYTES, own=True) for key, data in self._endpoints.items()}

    def apply(self, batch: Batch) -> None:
        """Take a batch in, once; what breaks a limit is left out with a warning."""
        self._check()
        if batch.id in self._applied:
            return
        self._applied.append(batch.id)
        for row in batch.sessions:
            self._put_session(row)
        for site, id_ in batch.removed:
            self._sessions.pop((site, id_), None)
            self._removed.add((site, id_))
            self._held.get(site, set()).discard(id_)
        for site, state in batch.sites.items():
            merged = {**(self.site_state(site) or {}), **state}
            known = {key: value for key, value in merged.items() if value is not None}
            self._put_state(self._sites, site, known, MAX_STATE_BYTES)
        for key, state in batch.endpoints.items():
            self._put_state(self._endpoints, key, state, MAX_ROW_BYTES)

    def sites(self) -> list[str]:
        """Return the keys of all sites with sessions or a learnt state."""
        self._check()
        return sorted({site for site, _ in self._sessions} | set(self._sites))

    def rows(self, site: str | None = None) -> Iterator[Row]:
        """Yield copies of the saved sessions."""
        self._check()
        kept = [data for (where, _), (_, data) in self._sessions.items() if site in (None, where)]
        return (decode(data, MAX_ROW_BYTES, own=True) for data in kept)

    def has(self, site: str, session_id: str) -> bool:
        """Return whether a session is kept."""
        self._check()
        return (site, session_id) in self._sessions

    def close(self) -> None:
        """Release all claims."""
        self._open = False
        self._held.clear()

    def _put_session(self, row: Row) -> None:
        try:
            site, id_, exit_ = row_key(row)
            data = encode(row, MAX_ROW_BYTES)
        except InvalidRow as error:
            logger.warning("Session %r is not kept: %s", row.get("id"), error)
            return
        if (site, id_) in self._removed:
            self.refused += 1
        elif (site, id_) not in self._sessions and len(self._sessions) >= MAX_SESSIONS:
            logger.warning("Session %r is not kept: the store holds %d", id_, MAX_SESSIONS)
        else:
            self._sessions[site, id_] = (exit_, data)
            self._held.setdefault(site, set()).add(exit_)

    def _put_state(
        self, states: dict[str, bytes], key: str, state: dict[str, Any], limit: int
    ) -> None:
        try:
            states[text_key(key)] = encode(state, limit)
        except InvalidRow as error:
            logger.warning("A learnt state is not kept: %s", error)

    def _check(self) -> None:
        if not self._open:
            msg = "the store is not open"
            raise StoreError(msg)
