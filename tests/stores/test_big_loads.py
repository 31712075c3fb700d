"""Sites with thousands of sessions are loaded without holding up the crawl."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.store_cost import fill, load_pool, make_pools, opened, schedule
from scrapy_session_filter.garbage import MANY, look_again, set_aside
from scrapy_session_filter.outbox import Outbox
from scrapy_session_filter.stores import store_from_uri
from scrapy_session_filter.stores.thread import StoreThread
from tests.crawls.fleet import at_most
from tests.stores.places import RedisPlace, SQLitePlace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stores.places import Place

SESSIONS = 20_000


@pytest.fixture
def uri(shared_place: Place) -> str:
    if isinstance(shared_place, RedisPlace):
        return shared_place.uri
    assert isinstance(shared_place, SQLitePlace)
    return f"sqlite:{shared_place.path}"


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    yield
    assert gc.isenabled()
    look_again(HOLDER)


def test_a_big_site_holds_nobody_up(uri: str) -> None:
    """While 20,000 sessions come in, the event loop never stands still for 50 ms."""
    fill(opened(uri), SESSIONS)
    store, thread = store_from_uri(uri, default_path=""), StoreThread()
    pools = make_pools(Outbox(store, thread, time.monotonic), "adaptive")
    with schedule() as waiting:
        _, held_up = asyncio.run(load_pool(store, pools, SESSIONS, waiting))
    thread.stop(patience=1.0)
    store.close()
    assert held_up < at_most(0.05)
    assert pools.restored.kept == SESSIONS
    assert gc.get_freeze_count() == 0  # they can be collected now that the pools are closed


def test_many_sessions_are_set_aside() -> None:
    """The collector looks at nothing while many come in, nor at them afterwards."""
    before = gc.get_freeze_count()
    with set_aside(MANY, HOLDER):
        assert not gc.isenabled()
        with set_aside(MANY):  # another site, at the same time
            pass
        assert not gc.isenabled()
        assert gc.get_freeze_count() == before
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    look_again(HOLDER)
    assert gc.get_freeze_count() == 0


class Crawl:
    """Something that holds sessions."""


HOLDER = Crawl()


def test_what_another_crawl_has_set_aside_stays_so() -> None:
    """One crawl's end lets the collector look again only where no other of the process holds any."""
    others = [Crawl() for _ in range(3)]
    for crawl in others:
        with set_aside(MANY, crawl):
            pass
    with set_aside(MANY):  # for a moment, by nobody in particular
        pass
    look_again(others[0])
    assert gc.get_freeze_count() > 0
    look_again(others[0])
    assert gc.get_freeze_count() > 0
    del crawl, others[1]  # gone without a word
    look_again(others[1])
    assert gc.get_freeze_count() == 0


def test_few_sessions_are_not() -> None:
    """For a site with fewer all stays as it is."""
    before = gc.get_freeze_count()
    with set_aside(MANY - 1):
        assert gc.isenabled()
    assert gc.get_freeze_count() == before


def test_a_collector_that_is_off_stays_off() -> None:
    """Who has switched the collector off finds it so."""
    gc.disable()
    try:
        with set_aside(MANY):
            pass
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0
    finally:
        gc.enable()
