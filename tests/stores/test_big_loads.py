"""Sites with thousands of sessions are loaded without holding up the crawl."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.store_cost import fill, load_pool, make_pools, opened, schedule
from scrapy_session_filter.outbox import Outbox
from scrapy_session_filter.stores import store_from_uri
from scrapy_session_filter.stores.thread import StoreThread
from tests.crawls.fleet import at_most
from tests.stores.places import RedisPlace, SQLitePlace

if TYPE_CHECKING:
    from tests.stores.places import Place

SESSIONS = 20_000


@pytest.fixture
def uri(shared_place: Place) -> str:
    if isinstance(shared_place, RedisPlace):
        return shared_place.uri
    assert isinstance(shared_place, SQLitePlace)
    return f"sqlite:{shared_place.path}"


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
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
