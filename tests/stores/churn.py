"""Many processes that share sessions while some are killed and frozen; counts tell double users."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

from scrapy_session_filter.stores import store_from_uri
from scrapy_session_filter.stores.base import CLAIM_SECONDS, Batch
from tests.crawls.fleet import at_most
from tests.stores.places import SITE, row
from tests.stores.processes import Reader, Worker

if TYPE_CHECKING:
    from scrapy_session_filter.session import Row

SPEED = CLAIM_SECONDS  # at this speed of the clock a claim holds for one second
SESSIONS = 12


def fill(uri: str, number: int) -> None:
    """Save unused sessions."""
    store = store_from_uri(uri, default_path="")
    store.open()
    store.apply(Batch("fill", [row(n, uses=0) for n in range(number)]))
    store.close()


def check_counts(uri: str, processes: int, seconds: float) -> None:
    """Let processes count uses while they are killed and frozen; no count is lost or doubled."""
    fill(uri, SESSIONS)
    rng = random.Random(processes)
    readers: list[Reader] = []

    def begin() -> Reader:
        readers.append(Reader(Worker("churn", uri, speed=SPEED, seed=len(readers))))
        return readers[-1]

    running = [begin() for _ in range(processes)]
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            time.sleep(0.3)
            victim = rng.randrange(processes)
            if rng.random() < 0.5:
                running[victim].worker.kill()
                running[victim] = begin()
            else:
                running[victim].worker.signal(signal.SIGSTOP)
                time.sleep(1.3)  # longer than a claim holds
                running[victim].worker.signal(signal.SIGCONT)
    finally:
        for reader in readers:
            reader.worker.kill()
            reader.join()
            reader.worker.__exit__()
    compare(uri, readers)


def compare(uri: str, readers: list[Reader]) -> None:
    """Compare what was acknowledged with what is saved; claims of the dead end in their time."""
    saved: Counter[str] = Counter()
    unknown: Counter[str] = Counter()  # cut off between the save and its acknowledgement
    for reader in readers:
        events = [said for said in reader.said if said[0] != "failed"]
        saved.update(id_ for event, id_ in events if event == "saved")
        if events and events[-1][0] == "tried":
            unknown[events[-1][1]] += 1
    store = store_from_uri(uri, default_path="")
    store.open()
    rows: dict[str, Row] = {}
    deadline = time.monotonic() + at_most(2)  # a claim of one second, plus one
    while len(rows) < SESSIONS and time.monotonic() < deadline:
        rows.update({found["id"]: found for found in store.claim(SITE, []).rows})
        time.sleep(0.02)
    store.close()
    assert len(rows) == SESSIONS
    assert sum(saved.values()) > SESSIONS
    for id_, found in rows.items():
        assert saved[id_] <= found["uses"] <= saved[id_] + unknown[id_]
