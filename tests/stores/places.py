"""Places where stores of each kind can be tried: what differs between them, for one suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import redis

from scrapy_session_filter.stores.memory import MemoryStore
from scrapy_session_filter.stores.redis import RedisStore
from scrapy_session_filter.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from pathlib import Path

    from scrapy_session_filter.session import Row
    from scrapy_session_filter.stores.base import SessionStore

SITE = "shop.example"


class Place(ABC):
    """Makes stores that all lie at one address, each an owner of its own."""

    shared = True

    def __init__(self) -> None:
        self._made: list[SessionStore] = []

    def open(self) -> SessionStore:
        """Return a new store, open."""
        store = self.new()
        store.open()
        return store

    def new(self) -> SessionStore:
        """Return a new store, not yet open."""
        store = self._build()
        self._made.append(store)
        return store

    def clean(self) -> None:
        """Close what a test left open."""
        for store in self._made:
            store.close()

    @abstractmethod
    def _build(self) -> SessionStore: ...

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Let time pass for all claims."""


class MemoryPlace(Place):
    shared = False

    def __init__(self) -> None:
        super().__init__()
        self._store = MemoryStore()

    def _build(self) -> SessionStore:
        return self._store

    def wait(self, seconds: float) -> None:
        pass


class SQLitePlace(Place):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.now = 1000.0

    def _build(self) -> SessionStore:
        return SQLiteStore(self.path, clock=lambda: self.now, busy_timeout=0.3)

    def wait(self, seconds: float) -> None:
        self.now += seconds


class RedisPlace(Place):
    """A server's store; time passes by moving the ends of all claims."""

    def __init__(self, uri: str) -> None:
        super().__init__()
        self.uri = uri
        self.client: Any = redis.Redis.from_url(uri)
        self.client.flushall()
        self.client.script_flush()  # as new: else it is taken for one that was emptied while in use

    def _build(self) -> SessionStore:
        return RedisStore(self.uri)

    def wait(self, seconds: float) -> None:
        for owner in self.client.zrange("{session-filter}:owners", 0, -1):
            self.client.zincrby("{session-filter}:owners", -seconds, owner)
        for key in self.client.keys("{session-filter}:w:*"):
            for owner, want in self.client.hgetall(key).items():
                short, until = want.split()
                self.client.hset(key, owner, f"{int(short)} {float(until) - seconds}")

    def clean(self) -> None:
        super().clean()
        self.client.close()


def row(number: int = 1, site: str = SITE, exit_: str | None = None, **fields: Any) -> Row:
    """Return a session as stores keep it; its id tells the number, its exit is its own."""
    id_ = f"s{number:011d}"
    return {
        "id": id_,
        "site": site,
        "exit": exit_ or id_,
        "proxy": "http://gateway.example:8000",
        "headers": {"User-Agent": "Mozilla/5.0", "Accept-Language": "en"},
        "born": 1_700_000_000.5,
        "used": 1_700_000_100.25,
        "uses": number,
        "oks": 0,
        "blocks": 0,
        "errors": 0,
        "rest": None,
        "cookies": [{"name": "sid", "value": "ü-🍪", "domain": f".{site}"}],
        "learnt": {"mean": 0.5},
        "engine": None,
        **fields,
    }


def exits(*numbers: int) -> set[str]:
    """Return the exits of the rows with these numbers."""
    return {row(number)["exit"] for number in numbers}
