"""A pool as plain JSON: what the store is told, and what it gives back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.roster import LONGEST_REST
from scrapy_session_filter.session import Session, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scrapy_session_filter.pool import SessionPool
    from scrapy_session_filter.session import Row


REST = "rest "
"""What a site's state calls the rest of a proxy: this and the proxy's key."""


@dataclass(slots=True)
class Restored:
    """How many saved sessions came back, and why the others did not."""

    kept: int = 0
    expired: int = 0
    no_proxy: int = 0
    damaged: int = 0

    def __bool__(self) -> bool:
        return bool(self.kept or self.expired or self.no_proxy or self.damaged)

    def add(self, more: Restored) -> None:
        """Add another site's numbers."""
        self.kept += more.kept
        self.expired += more.expired
        self.no_proxy += more.no_proxy
        self.damaged += more.damaged

    def __str__(self) -> str:
        return (
            f"{self.kept} sessions restored ({self.expired} had expired, {self.no_proxy} had lost "
            f"their proxy, {self.damaged} were damaged)"
        )


def take_changes(pool: SessionPool, wall_offset: float) -> tuple[list[Row], list[str]]:
    """Return rows to write and ids of sessions to forget, since the last call.

    ``wall_offset`` is wall clock minus pool clock, in seconds.
    """
    roster = pool.roster
    rows = []
    for session in roster.changed:
        row = session.to_row(wall_offset)
        row["learnt"] = pool.policy.dump_session(
            session
        )  # kept there only: it is as large as the rest
        rows.append(row)
    roster.changed.clear()
    removed, roster.removed = roster.removed, []
    return rows, removed


def site_state(pool: SessionPool, wall_offset: float) -> dict[str, Any]:
    """Return what was learnt of the pool's site, and which proxies' rests there changed.

    Rests have a key each, as processes that share a store merge what they know by key.
    """
    state: dict[str, Any] = {
        "policy": type(pool.policy).__name__,
        "learnt": pool.policy.dump(),
        "health": pool.health.dump(),
        "new": [round(odds, 4) for odds in pool.ledger.new_odds],
    }
    if pool.proxies is not None:
        if pool.proxies.is_list:
            state["free"] = pool.proxies.free()
        rests = pool.proxies.take_changes(wall_offset)
        state.update({REST + key: rest for key, rest in rests.items()})
    return state


def restore(
    pool: SessionPool,
    rows: Iterable[Row],
    state: Mapping[str, Any] | None,
    *,
    now: float,
    wall_offset: float,
) -> Restored:
    """Fill a new pool with what was saved.

    Sessions that are too old, damaged, or whose proxy is gone or taken are dropped, and count as
    removed, so that the store forgets them too.
    """
    restore_site(pool, state, now=now, wall_offset=wall_offset)
    in_order = sorted(rows, key=birth)
    return restore_sessions(pool, in_order, set(), now=now, wall_offset=wall_offset)


def restore_sessions(
    pool: SessionPool, rows: Iterable[Row], left: set[str], *, now: float, wall_offset: float
) -> Restored:
    """Add saved sessions to a pool, in the order of their `birth`.

    The exits that they use are removed from ``left``.
    """
    restored = Restored()
    for row in rows:
        session = _session(pool, row, restored, now, wall_offset)
        if session is None:
            if isinstance(row.get("id"), str) and row["id"] not in pool.sessions:
                pool.roster.removed.append(row["id"])
        else:
            pool.roster.join(session, now)
            left.discard(session.exit)
            restored.kept += 1
    return restored


def birth(row: Row) -> float:
    """Return when a saved session was made; 0.0 where that makes no sense."""
    born = row.get("born")
    return born if isinstance(born, float) and math.isfinite(born) else 0.0


def load_rests(
    pool: SessionPool, state: Mapping[str, Any] | None, *, now: float, wall_offset: float
) -> None:
    """Take over how proxies rest on the site, as another process or run has saved it."""
    if pool.proxies is not None and state:
        rests = {
            name.removeprefix(REST): value for name, value in state.items() if name.startswith(REST)
        }
        pool.proxies.load(rests, now=now, wall_offset=wall_offset)


def _session(
    pool: SessionPool, row: Row, restored: Restored, now: float, wall_offset: float
) -> Session | None:
    proxies = pool.proxies
    try:
        session = Session.from_row(row, None, now=now, wall_offset=wall_offset)
    except InvalidRow:
        restored.damaged += 1
        return None
    key = row.get("proxy")
    known = key is None or isinstance(key, str)
    if not known or session.site != pool.site or session.id in pool.sessions:
        restored.damaged += 1
        return None
    if pool.roster.expiry(session, now) or pool.roster.is_spent(session):
        restored.expired += 1
        return None
    session.endpoint = proxies.adopt(key) if proxies is not None and key else None
    if (session.endpoint is None) != (proxies is None):
        restored.no_proxy += 1
        return None
    if session.state is State.RESTING:
        session.wake = min(session.wake, now + LONGEST_REST)
    return session


def restore_site(
    pool: SessionPool, state: Mapping[str, Any] | None, *, now: float, wall_offset: float
) -> None:
    """Give a new pool what was learnt of its site."""
    load_rests(pool, state, now=now, wall_offset=wall_offset)
    state = state or {}
    learnt, health, odds = state.get("learnt"), state.get("health"), state.get("new")
    if isinstance(learnt, dict) and state.get("policy") == type(pool.policy).__name__:
        pool.policy.load(learnt)
    if isinstance(health, dict):
        pool.health.load(health)
    if (
        isinstance(odds, list)
        and len(odds) == 2
        and all(isinstance(value, (int, float)) and 0 < value <= 100 for value in odds)
    ):
        pool.ledger.new_odds = [float(value) for value in odds]
