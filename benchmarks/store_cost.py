"""What the stores cost: saving 32 changed sessions, and loading all of them into a pool.

    python -m benchmarks.store_cost [--sizes 100 10000 100000] [--stores sqlite redis]

Each save is timed beside a plain write and fsync of as many bytes, which no durable store can beat
and which tells how busy the disk is. Loading is what a crawl does when it first asks for the site:
opening (with check and backup), claiming all, and restoring the sessions in the event loop. It costs
processor time, of this process and of the Redis server, which is given beside the time on the clock:
on a busy machine they differ. ``held up`` is the longest time in which the event loop did nothing
else; what it waited for a processor does not count. Exits with 1 if a goal is missed: a save 10 ms
(median; on a busy disk four plain ones), 100,000 sessions loaded in 4 s of processor time, the loop
never held up for more than 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from threading import get_native_id
from typing import TYPE_CHECKING, Any

import redis

from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.garbage import crawl_begins, crawl_ended
from scrapy_session_filter.identities import identity_source
from scrapy_session_filter.loading import load
from scrapy_session_filter.outbox import Outbox
from scrapy_session_filter.policies import POLICIES
from scrapy_session_filter.pool import Limits
from scrapy_session_filter.pools import SitePools
from scrapy_session_filter.proxies import parse_proxy, proxy_source
from scrapy_session_filter.stores import store_from_uri
from scrapy_session_filter.stores.base import Batch, SessionStore
from scrapy_session_filter.stores.thread import StoreThread
from scrapy_session_filter.tenure import Tenure
from scrapy_session_filter.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

sys.path.insert(0, str(Path(__file__).parent.parent / "example_project"))

from loopback.redis_server import redis_server

SITE = "shop.example"
GATEWAY = "http://user-{session}:password@gateway.example:8000"
PROXY = parse_proxy(GATEWAY, setting="BENCHMARK").key
CHANGED = 32
ROUNDS = 60
SAVE_GOAL = 0.010
SYNCS = 4  # a durable save needs three syncs: of the journal, the file, the journal's end
LOAD_GOAL = 4.0
LOOP_GOAL = 0.050
TICK = 0.010
NOW = time.time()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--stores", nargs="+", default=["sqlite", "redis"])
    parser.add_argument("--policy", default="adaptive", choices=sorted(POLICIES))
    options = parser.parse_args()
    print(
        f"{'store':>6} {'sessions':>9} {'save p50':>9} {'p95':>8} {'fsync p50':>10} {'load':>9}"
        f" {'(cpu':>9} {'server)':>9} {'held up':>9}"
    )
    missed = False
    for kind in options.stores:
        for size in options.sizes:
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                uri = f"sqlite:{folder}/sessions.sqlite"
                if kind == "redis":
                    uri = stack.enter_context(redis_server())
                missed |= measure(kind, uri, size, Path(folder), options.policy)
    return int(missed)


def measure(kind: str, uri: str, size: int, directory: Path, policy: str) -> bool:
    fill(opened(uri), size)
    store = store_from_uri(uri, default_path="")
    thread = StoreThread()
    pools = make_pools(Outbox(store, thread, time.monotonic), policy)
    own, server = time.process_time(), busy(uri)
    with schedule() as waiting:
        load_, held_up = asyncio.run(load_pool(store, pools, size, waiting))
    own, server = time.process_time() - own, busy(uri) - server
    thread.stop(patience=1.0)
    saves, syncs = [], []
    for n in range(ROUNDS):
        rows = [row((n * CHANGED + i) % size, uses=n + 1) for i in range(CHANGED)]
        saves.append(timed(partial(patiently, store.apply, Batch(str(n), rows))))
        syncs.append(timed(lambda: plain_write(directory / "plain", os.urandom(CHANGED * 1200))))
    store.close()
    save = median(saves)
    p95 = sorted(saves)[int(len(saves) * 0.95)]
    print(
        f"{kind:>6} {size:9} {ms(save):>9} {ms(p95):>8} {ms(median(syncs)):>10} {ms(load_):>9}"
        f" {ms(own):>9} {ms(server):>9} {ms(held_up):>9}"
    )
    slow = save > max(SAVE_GOAL, SYNCS * median(syncs))
    return slow or (size <= 100_000 and own + server > LOAD_GOAL) or held_up > LOOP_GOAL


async def load_pool(
    store: SessionStore, pools: SitePools, size: int, waiting: Callable[[], float]
) -> tuple[float, float]:
    """Open a store and load the site; returns the seconds for that, and the loop's longest hold-up."""
    held_up: list[float] = [0.0]
    crawl_begins(pools)
    try:
        start = time.perf_counter()
        await asyncio.wrap_future(pools.outbox.thread.submit(store.open))
        ticking = asyncio.ensure_future(tick(held_up, waiting))
        pool = await pools.get(SITE)
        await asyncio.sleep(2 * TICK)
        took = time.perf_counter() - start
        ticking.cancel()
        assert len(pool.sessions) == size
        pools.close()
    finally:
        crawl_ended(pools)
    return took, max(held_up)


async def tick(held_up: list[float], waiting: Callable[[], float]) -> None:
    """Note for how long the loop does nothing else, again and again."""
    then, waited = time.monotonic(), waiting()
    while True:
        await asyncio.sleep(TICK)
        now, waited_now = time.monotonic(), waiting()
        held_up.append(now - then - TICK - (waited_now - waited))
        then, waited = now, waited_now


@contextmanager
def schedule() -> Iterator[Callable[[], float]]:
    """Give for how many seconds this thread could have run, had there been a processor for it."""
    path = Path(f"/proc/self/task/{get_native_id()}/schedstat")
    if not path.exists():  # only Linux has it
        yield lambda: 0.0
        return
    with path.open("rb", 0) as file:
        yield lambda: int(os.pread(file.fileno(), 99, 0).split()[1]) / 1e9


def make_pools(outbox: Outbox, policy: str) -> SitePools:
    """Return pools behind a gateway."""
    source = proxy_source(GATEWAY, None)
    source.check()
    return SitePools(
        policy=load(POLICIES[policy], setting="--policy", expected="a policy"),
        context={"max_sessions": 0},
        source=source,
        identities=identity_source("fake-useragent"),
        limits=Limits(max_age=86400.0),
        max_sites=1000,
        dry_run=False,
        rng=random.Random(1),
        clock=time.monotonic,
        watcher=Watcher(),
        outbox=outbox,
        tenure=Tenure(),
        remember=lambda session: None,
    )


def busy(uri: str) -> float:
    """Processor seconds of the server, if there is one."""
    if not uri.startswith("redis:"):
        return 0.0
    server = redis.Redis.from_url(uri).info("cpu")
    return float(server["used_cpu_user"] + server["used_cpu_sys"])


def patiently(call: Any, *values: Any) -> Any:
    """Call until it works: on a busy machine a server may take longer than a crawl would wait."""
    while True:
        try:
            return call(*values)
        except StoreError:  # noqa: PERF203 - it waits anyway
            time.sleep(0.1)


def opened(uri: str) -> SessionStore:
    store = store_from_uri(uri, default_path="")
    store.open()
    return store


def fill(store: SessionStore, size: int) -> None:
    for start in range(0, size, 1000):
        rows = [row(n) for n in range(start, min(start + 1000, size))]
        patiently(store.apply, Batch(f"fill {start}", rows))
    store.close()


def row(number: int, **fields: Any) -> dict[str, Any]:
    """Return a session of about 1.2 kB, with four cookies."""
    id_ = f"s{number:011d}"
    return {
        "id": id_,
        "site": SITE,
        "exit": id_,
        "proxy": PROXY,
        "headers": {
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
            " Chrome/126.0.0.0 Safari/537.36",
            "Accept-Language": "en-US,en;q=0.9",
            "Sec-CH-UA": '"Chromium";v="126", "Not:A-Brand";v="8"',
        },
        "born": NOW - 3600.0,
        "used": NOW - 1800.0 + number / 1000,
        "uses": number,
        "oks": number,
        "blocks": 0,
        "errors": 0,
        "rest": None,
        "cookies": [
            {
                "name": f"cookie{i}",
                "value": f"{number:064x}",
                "domain": f".{SITE}",
                "path": "/",
                "expires": 1.8e9,
                "secure": True,
            }
            for i in range(4)
        ],
        "learnt": [3.5, 1.0, 2.25, 3.5, 0, True, True, [0.5] * 9],
        "engine": None,
        **fields,
    }


def plain_write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
