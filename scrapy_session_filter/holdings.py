"""What one pool holds of a site that other processes use too: exits it may use, wants, or gives away."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.snapshot import REST, Restored, birth, load_rests, restore_sessions

if TYPE_CHECKING:
    from collections.abc import Collection
    from random import Random

    from scrapy_session_filter.pool import SessionPool
    from scrapy_session_filter.session import Row, Session
    from scrapy_session_filter.stores.base import SessionStore

LATELY = 10.0
"""Seconds in which a site was asked for, so that its pool claims more exits."""
_LONGEST_CLAIM = 1.0  # seconds after which a share is left as it is, so that saves get their turn


@dataclass(slots=True)
class Share:
    """Exits that were claimed, the sessions on them by birth, and what is known of the site."""

    exits: set[str] = field(default_factory=set)
    rows: list[Row] = field(default_factory=list, repr=False)
    state: dict[str, Any] | None = None
    short: int = 0
    error: StoreError | None = None


def take_share(store: SessionStore, site: str, offered: Collection[str]) -> Share:
    """Claim until this process has an equal part of a site's exits, or no more are free.

    To be called in the store's thread. Exits may have been granted although the share holds an
    error: they are to be released.
    """
    share = Share()
    deadline = time.monotonic() + _LONGEST_CLAIM
    try:
        while True:
            claim = store.claim(site, offered)
            share.exits |= claim.exits
            share.rows += claim.rows
            share.short = claim.short
            if not claim.exits or not claim.short or time.monotonic() > deadline:
                break
        share.rows.sort(key=birth)
        # Not earlier: who released an exit has written before how it fared there.
        share.state = store.site_state(site)
    except StoreError as error:
        share.error = error
    return share


class Holdings:
    """One pool's exits. None is used that the store has not granted, and none given back in use."""

    def __init__(self, pool: SessionPool, rng: Random) -> None:
        self._pool = pool
        self._rng = rng
        self._short = 0  # exits lacking of an equal part, at the last claim
        self._leaving: set[Session] = set()
        self.list_changed = False  #: proxies came to the list that are not claimed yet

    @property
    def exits(self) -> set[str]:
        """All exits that this pool uses or may use."""
        proxies = self._pool.proxies
        used = {session.exit for session in self._pool.sessions.values()}
        return used if proxies is None else used.union(proxies.claimed)

    def wishes(self, now: float, *, renewing: bool) -> list[str] | None:
        """Return the proxies to offer in a claim, None where there is no need for one.

        There is while less than an equal part is held, where no proxy is free, where a pinned
        request waits for a session of another process, and, ``renewing``, whenever the list is not
        held whole: somebody may have left.
        """
        pool = self._pool
        for session_id in [id_ for id_, until in pool.away.items() if now - until > LATELY]:
            del pool.away[session_id]  # nobody asks for it any more
        if not pool.away and now - pool.ledger.asked > LATELY:
            return None
        proxies = pool.proxies
        partly = proxies is not None and not proxies.is_whole
        hungry = partly and proxies is not None and not proxies.has_free(now)
        if not (self._short or (partly and (renewing or self.list_changed)) or hungry or pool.away):
            return None
        return [] if proxies is None else proxies.unclaimed()

    def gain(self, share: Share, now: float, wall_offset: float) -> tuple[Restored, set[str]]:
        """Take in what was claimed; returns what became of its sessions, and exits without a use."""
        self.list_changed = False
        pool = self._pool
        names = [REST + exit_ for exit_ in share.exits]
        rests = {name: share.state[name] for name in names if share.state and name in share.state}
        load_rests(pool, rests, now=now, wall_offset=wall_offset)
        left = set(share.exits)
        restored = restore_sessions(pool, share.rows, left, now=now, wall_offset=wall_offset)
        useless = self.admit(share, left, now)
        return restored, useless - self.exits if useless else useless

    def admit(self, share: Share, left: set[str], now: float) -> set[str]:
        """Let the proxies of a share be used; returns the exits in it that this pool cannot use.

        ``left`` are those that no session uses.
        """
        pool = self._pool
        self._short = share.short
        if pool.proxies is not None:
            pool.proxies.admit(share.exits, now)
        for session_id in [id_ for id_ in pool.away if id_ in pool.sessions]:
            del pool.away[session_id]
        if share.exits:
            pool.waiters.came()
        gone = {id_ for id_ in pool.roster.removed if id_ in share.exits}  # the store drops them
        return left.difference(() if pool.proxies is None else pool.proxies.claimed, gone)

    def surrender(self, number: int, now: float) -> list[str]:
        """Return up to ``number`` exits to give back now, drawn from all: good ones and bad ones.

        Of those drawn, the ones in use take no more requests and follow on a later call.
        """
        pool = self._pool
        here = {s for s in self._leaving if pool.sessions.get(s.id) is s}
        ready = [session.exit for session in here if not session.in_flight]
        self._leaving = {session for session in here if session.in_flight}
        lacking = number - len(ready) - len(self._leaving)
        if lacking <= 0:
            return ready
        sessions = {s.exit: s for s in pool.sessions.values() if s not in here}
        exits = [*sessions, *(() if pool.proxies is None else pool.proxies.unused())]
        for exit_ in self._rng.sample(exits, min(lacking, len(exits))):
            session = sessions.get(exit_)
            if session is None or not session.in_flight:
                ready.append(exit_)
                continue
            session.leaving = True
            pool.roster.refresh(session, now)
            self._leaving.add(session)
        return ready

    def lose(self, exits: Collection[str]) -> None:
        """Use these exits no more; their sessions leave, and leases on them end as they may."""
        if not exits:
            return
        pool = self._pool
        lost = [session for session in pool.sessions.values() if session.exit in exits]
        for session in lost:
            pool.roster.hand_over(session)
        if pool.proxies is not None:
            pool.proxies.withdraw(exits)
