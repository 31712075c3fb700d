"""`redis://`, `rediss://`: one server, Redis or Valkey, for many machines."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from scrapy_session_filter.exceptions import StoreError, StoreVersionError
from scrapy_session_filter.garbage import set_aside
from scrapy_session_filter.stores import mask_uri
from scrapy_session_filter.stores import redis_scripts as scripts
from scrapy_session_filter.stores.base import (
    MAX_ROW_BYTES,
    MAX_SESSIONS,
    MAX_STATE_BYTES,
    Batch,
    Claim,
    SessionStore,
)
from scrapy_session_filter.stores.redis_batch import APPLY, Part, parts
from scrapy_session_filter.stores.redis_claims import PAUSE, TRIES, RedisClaims, WipedError
from scrapy_session_filter.stores.redis_link import Link
from scrapy_session_filter.stores.redis_read import decoded, intact, text, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from scrapy_session_filter.session import Row

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

VERSION = 1
_TAG = "{session-filter}"
_PORTION = 200  # rows per reply
_RETURN_SECONDS = 5  # in which the owners of an emptied store take back what they held


def _step(
    method: Callable[Concatenate[RedisStore, P], T],
) -> Callable[Concatenate[RedisStore, P], T]:
    """Let one thread at a time call, while the store is open; after a wipe call once more."""

    @wraps(method)
    def call(self: RedisStore, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock:
            self.check()
            try:
                return method(self, *args, **kwargs)
            except WipedError:
                return method(self, *args, **kwargs)

    return call


class RedisStore(SessionStore):
    """Keeps pools in the Redis server at ``uri``, for all processes that can reach it.

    A claim ends when it runs out or is given back; nobody sees a remote process die. No call takes
    much longer than `redis_link.TIMEOUT` per step; after a failure calls fail at once until it is
    time to try again. What a lost reply leaves unclear is settled by the next call.
    """

    shared = True

    def __init__(self, uri: str) -> None:
        self._link = Link(uri)
        self._name = mask_uri(uri)
        self._open = False
        self.lock = threading.RLock()
        self._me = ""
        self._epoch = ""
        self._claims = RedisClaims(self._run)
        #: By site and id, the exit of each session that is not an exit of its own.
        self._exits: dict[tuple[str, str], str] = {}

    @classmethod
    def from_uri(cls, uri: str, default_path: str) -> RedisStore:  # noqa: ARG003 - needs no file
        """Build it from ``redis://[user:password@]host[:port][/db]``; ``rediss://`` for TLS."""
        return cls(uri)

    def open(self) -> None:
        """Reach the server within 3 s, check how it keeps data, and become an owner.

        Raises `ConfigurationError` where the server refuses the password, `StoreError` where it
        does not answer.
        """
        if self._open:
            msg = f"{self._name} is already open"
            raise StoreError(msg)
        self._link.open()
        self._me = secrets.token_hex(8)
        self._claims = RedisClaims(self._run)
        self._epoch = self._join(wiped=self._link.knows(scripts.CLAIM))
        self._open = True

    @_step
    def claim(self, site: str, offered: Collection[str], most: int | None = None) -> Claim:
        """Claim a fair share of a site's free exits; junk on them is left out."""
        grant = self._claims.grant(site, offered, most)
        with set_aside(len(grant.ids)):
            rows = list(self._rows_of(site, grant.ids, grant.exits))
        for row in rows:
            self._note_exit(row)
        self._claims.settle(site, grant)
        return Claim(grant.token, set(grant.exits), rows, grant.short)

    @_step
    def renew(self) -> dict[str, set[str]]:
        """Prolong all claims of this owner; returns, by site, exits that were lost meanwhile.

        The server is asked in any case: one that holds nothing learns that way whether it answers.
        """
        self._call("EXISTS", "meta")
        return self._claims.renew()

    def held(self, site: str) -> set[str]:
        """Return the exits of a site that this owner holds as far as it knows."""
        return set(self._claims.held.get(site, ()))

    @_step
    def wanted(self) -> set[str]:
        """Return the sites where another owner lacks exits."""
        return set(map(text, self._run(scripts.WANTED)))

    @_step
    def surplus(self, site: str) -> int:
        """Return how many exits of a site to give back so that owners that are short get theirs."""
        return int(self._run(scripts.SURPLUS, site, len(self._claims.held.get(site, ())))[0])

    @_step
    def release(self, site: str, exits: Collection[str]) -> None:
        """Give claims back at once."""
        self._run(scripts.RELEASE, site, *exits)
        self._claims.drop(site, exits)

    @_step
    def site_state(self, site: str) -> dict[str, Any] | None:
        """Return what was learnt of a site, or None."""
        found = self._call("HGETALL", f"t:{site}")
        state = {}
        for key, value in found.items():
            item = decoded(b'{"":' + value + b"}", MAX_STATE_BYTES)
            if item is not None:
                state[text(key)] = item[""]
        return state or None

    @_step
    def endpoint_states(self) -> dict[str, dict[str, Any]]:
        """Return the saved health of all endpoints by key."""
        states = {}
        for key, value in self._call("HGETALL", "endpoints").items():
            state = decoded(value, MAX_ROW_BYTES)
            if state is not None:
                states[text(key)] = state
        return states

    @_step
    def apply(self, batch: Batch) -> None:
        """Write a batch, in parts that are each written once; new exits become claimed.

        As durable as the server is set up to be.
        """
        for row in batch.sessions:
            self._note_exit(row)
        for part in parts(batch, self._claims.tokens, self._claims.held, self._exits):
            self._apply(part)

    @_step
    def sites(self) -> list[str]:
        """Return the keys of all sites with sessions or a learnt state."""
        return sorted(text(site) for site in self._call("SMEMBERS", "sites"))

    @_step
    def has(self, site: str, session_id: str) -> bool:
        """Return whether a session is saved, whoever claims its exit."""
        return bool(self._call("HEXISTS", f"s:{site}", session_id))

    def rows(self, site: str | None = None) -> Iterator[Row]:
        """Yield saved sessions, without claiming them."""
        for name in self.sites() if site is None else [site]:
            seen: set[bytes] = set()
            cursor = 0
            while True:
                cursor, found = self._scan(name, cursor)
                new = {id_: data for id_, data in found.items() if id_ not in seen}
                seen.update(new)
                yield from whole(intact(name, ((text(id_), data) for id_, data in new.items())))
                if cursor == 0:
                    break

    def close(self) -> None:
        """Release all claims and close; never fails: claims run out anyway."""
        with self.lock:
            if not self._open or not self._link.here:
                return
            self._open = False
            try:
                if any(self._claims.tokens.values()):
                    self._link.run(scripts.LEAVE, _TAG, self._epoch, self._me, self.claim_seconds)
            except StoreError as error:
                logger.debug("Claims in %s are left to run out: %s", self._name, error)
            self._forget()
            self._link.close()

    def check(self) -> None:
        """Raise `StoreError` unless the store is open in this process."""
        if not self._open or not self._link.here:
            msg = f"{self._name} is not open in this process"
            raise StoreError(msg)

    def _join(self, *, wiped: bool) -> str:
        """Become an owner; if the store is empty, and was not before, its owners are waited for."""
        seconds = _RETURN_SECONDS if wiped else 0
        said = self._link.run(scripts.JOIN, _TAG, secrets.token_hex(8), VERSION, seconds)
        version, epoch = said
        if int(version) > VERSION:
            msg = f"{self._name} has schema version {int(version)}, this release knows {VERSION}"
            raise StoreVersionError(msg)
        return text(epoch)

    def _run(self, script: str, *values: str | bytes | float) -> list[Any]:
        said = self._link.run(script, _TAG, self._epoch, self._me, self.claim_seconds, *values)
        if said != [b"wiped"]:
            return said
        self._epoch = self._join(wiped=True)
        self._forget()
        self.generation += 1
        msg = f"The session store {self._name} was wiped while in use"
        logger.error("%s; what this crawl holds is written again", msg)
        raise WipedError(msg)

    @_step
    def _scan(self, site: str, cursor: int) -> tuple[int, dict[bytes, bytes]]:
        cursor, found = self._call("HSCAN", f"s:{site}", cursor, "COUNT", _PORTION)
        return cursor, found

    def _call(self, command: str, key: str, *values: str | int) -> Any:
        return self._link.call(command, f"{_TAG}:{key}", *values)

    def _forget(self) -> None:
        self._claims.forget_all()
        self._exits.clear()

    def _rows_of(self, site: str, ids: list[str], granted: dict[str, int]) -> Iterator[Row]:
        for start in range(0, len(ids), _PORTION):
            some = ids[start : start + _PORTION]
            found = self._fetch(f"s:{site}", some)
            rows = intact(site, zip(some, found, strict=True))
            yield from (row for row in rows if row["exit"] in granted)

    def _fetch(self, key: str, names: list[str]) -> list[bytes | None]:
        for _ in range(TRIES - 1):
            with suppress(StoreError):
                return self._values(key, names)
            time.sleep(PAUSE)
        return self._values(key, names)

    def _values(self, key: str, names: list[str]) -> list[bytes | None]:
        found: list[bytes | None] = self._call("HMGET", key, *names)
        return found

    def _note_exit(self, row: Row) -> None:
        exit_, id_ = row.get("exit"), row.get("id")
        if exit_ != id_:
            self._exits[str(row.get("site")), str(id_)] = str(exit_)

    def _apply(self, part: Part) -> None:
        for site, exit_ in part.new_exits:
            self._claims.expected.setdefault(site, set()).add(exit_)
        said = self._run(APPLY, part.id, MAX_SESSIONS, *part.values)
        if said[0] == b"done":
            # The reply to the first time was lost. What was claimed then carries this token; where
            # it was refused, the server knows another token and goes on refusing.
            token, taken, gone = int(said[1]), part.new_exits if said[1] else [], part.removed
        else:
            token, refused, full = map(int, said[1:4])
            taken, gone = _pairs(said[4]), _pairs(said[5])
            self.refused += refused
            if full:
                logger.warning("%d sessions are not saved: the store is full", full)
        self._claims.expected.clear()
        for site, exit_ in taken:
            self._claims.keep(site, {exit_: token})
        for site, id_ in gone:
            self._claims.forget(site, id_)
            self._exits.pop((site, id_), None)


def _pairs(flat: list[bytes]) -> list[tuple[str, str]]:
    names = [text(name) for name in flat]
    return list(zip(names[::2], names[1::2], strict=True))
