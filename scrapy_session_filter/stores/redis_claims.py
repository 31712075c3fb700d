"""What one owner knows of its claims in a Redis server, and how it comes to know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.stores import redis_scripts as scripts
from scrapy_session_filter.stores.redis_read import text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_STEP = 1000  # exits per step, so that the server is never busy for long
TRIES = 5
"""How often a step is tried that others went before: a big load is not begun anew for one lost reply."""
PAUSE = 0.4
"""Seconds between two tries."""


class WipedError(StoreError):
    """The server has lost its contents; this owner has started over in the empty store."""


class Run(Protocol):
    """Runs a script for this owner; raises `StoreError`, also where the server was wiped."""

    def __call__(self, script: str, *values: str | bytes | float) -> list[Any]:
        """Return the script's reply."""
        ...


class Grant(NamedTuple):
    """What was granted: the last token, exits with their tokens, ids of the sessions on them."""

    token: int
    exits: dict[str, int]
    ids: list[str]
    short: int


class RedisClaims:
    """One owner's claims by site; what a lost reply leaves unclear is settled by the next call."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.tokens: dict[str, dict[str, int]] = {}  #: of all exits ever held
        self.held: dict[str, set[str]] = {}
        self._lost: dict[str, set[str]] = {}  # not told of yet
        self._look_for_losses = False
        self._unclear: set[str] = set()  # sites whose last claim had no reply
        #: By site, what was held when the server was wiped: it may be claimed again at once.
        self._former: dict[str, set[str]] = {}
        #: By site, exits that are claimed by changes whose reply is still to come.
        self.expected: dict[str, set[str]] = {}

    def forget_all(self) -> None:
        """Start over, in a server that has lost its contents."""
        for site, exits in self.held.items():
            self._former.setdefault(site, set()).update(exits)
        self.tokens.clear()
        self.held.clear()
        self._lost.clear()
        self._unclear.clear()
        self.expected.clear()
        self._look_for_losses = False

    def grant(self, site: str, offered: Collection[str], most: int | None) -> Grant:
        """Claim in steps; what was granted counts after `settle`."""
        granted: dict[str, int] = {}
        ids: list[str] = []
        wanted = -1 if most is None else max(most, 0)
        unclear = site in self._unclear
        self._unclear.add(site)
        former = self._former.get(site, set())
        again = [exit_ for exit_ in offered if exit_ in former]
        candidates = list(dict.fromkeys((*again, *offered)))
        goes_on, short, tries = False, 0, TRIES
        while True:
            barred = self._lost.get(site, ())
            try:
                if unclear:
                    self._give_back_unknown(site, granted)
                    unclear = False
                said = self._run(
                    scripts.CLAIM,
                    *(site, wanted, _STEP, int(goes_on), len(again), len(barred)),
                    *barred,
                    *candidates,
                )
            except StoreError as error:
                tries -= 1
                if not granted or not tries or isinstance(error, WipedError):
                    raise
                unclear = True
                time.sleep(PAUSE)
                continue
            tries = TRIES
            if said == [b"robbed"]:
                self._look_for_losses = True
                self._find_losses()
                continue
            if said == [b"more"]:
                continue
            token, exits, found, more, lacking = said
            short = short if goes_on else int(lacking)
            granted.update(dict.fromkeys(map(text, exits), int(token)))
            ids += map(text, found)
            if not exits or not more:
                return Grant(int(token), granted, ids, short)
            wanted, goes_on = int(more), int(more) > 0

    def _give_back_unknown(self, site: str, granted: Collection[str]) -> None:
        """Release what the server has granted, and this owner never heard of."""
        known = self.held.get(site, set()).union(granted, self.expected.get(site, ()))
        cursor = 0
        while True:
            next_cursor, found = self._run(scripts.HELD, site, cursor)
            unknown = [exit_ for exit_ in map(text, found) if exit_ not in known]
            if unknown:
                self._run(scripts.RELEASE, site, *unknown)
            cursor = int(next_cursor)
            if not cursor:
                return

    def settle(self, site: str, grant: Grant) -> None:
        """Hold what was granted, now that all of it is here."""
        self._unclear.discard(site)
        self.keep(site, grant.exits)

    def keep(self, site: str, exits: dict[str, int]) -> None:
        """Hold exits under their tokens."""
        self.held.setdefault(site, set()).update(exits)
        self.tokens.setdefault(site, {}).update(exits)

    def drop(self, site: str, exits: Iterable[str]) -> None:
        """No longer hold exits that were given back."""
        self.held.get(site, set()).difference_update(exits)

    def forget(self, site: str, exit_: str) -> None:
        """Remove all memory of an exit that went with its only session."""
        self.held.get(site, set()).discard(exit_)
        self.tokens.get(site, {}).pop(exit_, None)

    def renew(self) -> dict[str, set[str]]:
        """Prolong all claims; returns, by site, what was lost and not told of before."""
        if any(self.tokens.values()):
            (maybe_lost,) = self._run(scripts.RENEW)
            self._look_for_losses |= bool(maybe_lost)
            self._find_losses()
        lost, self._lost = self._lost, {}
        return lost

    def _find_losses(self) -> None:
        """Compare what this owner holds with what the server says, if there is reason to."""
        if not self._look_for_losses:
            return
        self._run(scripts.RENEW)  # whatever is lost after this will be told of again
        for site, held in self.held.items():
            exits = sorted(held)
            for start in range(0, len(exits), _STEP):
                some = exits[start : start + _STEP]
                tokens = (item for e in some for item in (e, self.tokens[site][e]))
                lost = self._run(scripts.KEEP, site, *tokens)
                if lost:
                    self._lost.setdefault(site, set()).update(map(text, lost))
            held.difference_update(self._lost.get(site, ()))
        self._look_for_losses = False
