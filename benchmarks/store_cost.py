"""What the stores cost: saving 32 changed sessions, and loading all of them.

    python -m benchmarks.store_cost [--sizes 100 10000 100000] [--stores sqlite redis]

Each save is timed beside a plain write and fsync of as many bytes, which no durable store can beat
and which tells how busy the disk is. Loading (opening, with check and backup, then claiming all)
costs processor time, of this process and of the Redis server, which is given beside the time on the
clock: on a busy machine they differ. Exits with 1 if a goal is missed: a save 10 ms (median; on a
busy disk four plain ones), 100,000 sessions loaded in 4 s of processor time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import redis

from scrapy_session_filter.stores import store_from_uri
from scrapy_session_filter.stores.base import Batch, SessionStore

sys.path.insert(0, str(Path(__file__).parent.parent / "example_project"))

from loopback.redis_server import redis_server

SITE = "shop.example"
CHANGED = 32
ROUNDS = 60
SAVE_GOAL = 0.010
SYNCS = 4  # a durable save needs three syncs: of the journal, the file, the journal's end
LOAD_GOAL = 4.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--stores", nargs="+", default=["sqlite", "redis"])
    options = parser.parse_args()
    print(
        f"{'store':>6} {'sessions':>9} {'save p50':>9} {'p95':>8} {'fsync p50':>10} {'open':>8}"
        f" {'claim':>8} {'load':>9} {'(cpu)':>9}"
    )
    missed = False
    for kind in options.stores:
        for size in options.sizes:
            with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
                uri = f"sqlite:{folder}/sessions.sqlite"
                if kind == "redis":
                    uri = stack.enter_context(redis_server())
                missed |= measure(kind, uri, size, Path(folder))
    return int(missed)


def measure(kind: str, uri: str, size: int, directory: Path) -> bool:
    fill(opened(uri), size)
    store = store_from_uri(uri, default_path="")
    processor = busy(uri)
    opening = timed(store.open)
    loaded: list[Any] = []
    claiming = timed(lambda: loaded.append(store.claim(SITE, [])))
    processor = busy(uri) - processor
    assert len(loaded[0].rows) == size
    saves, syncs = [], []
    for n in range(ROUNDS):
        rows = [row((n * CHANGED + i) % size, uses=n + 1) for i in range(CHANGED)]
        saves.append(timed(partial(store.apply, Batch(str(n), rows))))
        syncs.append(timed(lambda: plain_write(directory / "plain", os.urandom(CHANGED * 1200))))
    store.close()
    save, load = median(saves), opening + claiming
    p95 = sorted(saves)[int(len(saves) * 0.95)]
    print(
        f"{kind:>6} {size:9} {ms(save):>9} {ms(p95):>8} {ms(median(syncs)):>10} {ms(opening):>8}"
        f" {ms(claiming):>8} {ms(load):>9} {ms(processor):>9}"
    )
    slow = save > max(SAVE_GOAL, SYNCS * median(syncs))
    return slow or (size <= 100_000 and processor > LOAD_GOAL)


def busy(uri: str) -> float:
    """Processor seconds of this process, and of the server if there is one."""
    if not uri.startswith("redis:"):
        return time.process_time()
    server = redis.Redis.from_url(uri).info("cpu")
    return float(time.process_time() + server["used_cpu_user"] + server["used_cpu_sys"])


def opened(uri: str) -> SessionStore:
    store = store_from_uri(uri, default_path="")
    store.open()
    return store


def fill(store: SessionStore, size: int) -> None:
    for start in range(0, size, 1000):
        rows = [row(n) for n in range(start, min(start + 1000, size))]
        store.apply(Batch(f"fill {start}", rows))
    store.close()


def row(number: int, **fields: Any) -> dict[str, Any]:
    """Return a session of about 1.2 kB, with four cookies."""
    id_ = f"s{number:011d}"
    return {
        "id": id_,
        "site": SITE,
        "exit": id_,
        "proxy": "http://gateway.example:8000",
        "headers": {
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
            " Chrome/126.0.0.0 Safari/537.36",
            "Accept-Language": "en-US,en;q=0.9",
            "Sec-CH-UA": '"Chromium";v="126", "Not:A-Brand";v="8"',
        },
        "born": 1.7e9,
        "used": 1.7e9 + number,
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
        "learnt": {"a": 1.5, "b": 2.5, "n": 12},
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
