"""What the SQLite store costs: saving 32 changed sessions, and loading all of them.

    python benchmarks/store_cost.py [--sizes 100 10000 100000]

Each save is timed beside a plain write and fsync of as many bytes, which no durable store can beat
and which tells how busy the disk is. Loading (opening, with check and backup, then claiming all)
costs processor time, which is given beside the time on the clock: on a busy machine they differ.
Exits with 1 if a goal is missed: a save 10 ms (median; on a busy disk four plain ones), 100,000
sessions loaded in 4 s of processor time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from scrapy_session_filter.stores.base import Batch
from scrapy_session_filter.stores.sqlite import SQLiteStore

SITE = "shop.example"
CHANGED = 32
ROUNDS = 60
SAVE_GOAL = 0.010
SYNCS = 4  # a durable save needs three syncs: of the journal, the file, the journal's end
LOAD_GOAL = 4.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 10_000, 100_000])
    print(
        f"{'sessions':>9} {'save p50':>9} {'p95':>8} {'fsync p50':>10} {'open':>8} {'claim':>8}"
        f" {'load':>9} {'(cpu)':>9} {'file':>9} {'a session':>10}"
    )
    missed = False
    for size in parser.parse_args().sizes:
        with tempfile.TemporaryDirectory() as directory:
            missed |= measure(size, Path(directory))
    return int(missed)


def measure(size: int, directory: Path) -> bool:
    file = directory / "sessions.sqlite"
    fill(file, size)
    store = SQLiteStore(file)
    processor = time.process_time()
    opening = timed(store.open)
    loaded: list[Any] = []
    claiming = timed(lambda: loaded.append(store.claim(SITE, [])))
    processor = time.process_time() - processor
    saves, syncs = [], []
    for n in range(ROUNDS):
        rows = [row((n * CHANGED + i) % size, uses=n + 1) for i in range(CHANGED)]
        saves.append(timed(partial(store.apply, Batch(str(n), rows))))
        syncs.append(timed(lambda: plain_write(directory / "plain", os.urandom(CHANGED * 1200))))
    store.close()
    save, load = median(saves), opening + claiming
    p95 = sorted(saves)[int(len(saves) * 0.95)]
    length = file.stat().st_size
    print(
        f"{size:9} {ms(save):>9} {ms(p95):>8} {ms(median(syncs)):>10} {ms(opening):>8}"
        f" {ms(claiming):>8} {ms(load):>9} {ms(processor):>9}"
        f" {length / 1e6:6.1f} MB {length / size:8.0f} B"
    )
    slow = save > max(SAVE_GOAL, SYNCS * median(syncs))
    return slow or (size <= 100_000 and processor > LOAD_GOAL)


def fill(file: Path, size: int) -> None:
    store = SQLiteStore(file)
    store.open()
    for start in range(0, size, 5000):
        rows = [row(n) for n in range(start, min(start + 5000, size))]
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
