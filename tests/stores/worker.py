"""Processes that use a store, for tests that kill, stop and starve them.

``serve`` calls what it is told to, line by line; ``save`` saves without pause; ``churn`` claims,
counts, saves and releases at random. All write JSON lines to stdout.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import SessionFilterError, StoreError
from scrapy_session_filter.rows import Unread
from scrapy_session_filter.stores import store_from_uri
from scrapy_session_filter.stores.base import CLAIM_SECONDS, Batch, Claim, SessionStore
from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.stores.places import SITE, row

if TYPE_CHECKING:
    from scrapy_session_filter.session import Row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=("serve", "save", "churn"))
    parser.add_argument("uri")
    parser.add_argument("--speed", type=float, default=1.0, help="of the clock that claims run on")
    parser.add_argument("--skew", type=float, default=0.0, help="of the wall clock, in seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    real_time = time.time
    time.time = lambda: real_time() + options.skew
    if options.uri.startswith("sqlite:"):
        path = options.uri.removeprefix("sqlite:")
        store: SessionStore = SQLiteStore(path, clock=lambda: time.monotonic() * options.speed)
    else:
        # The clock is the server's, so the time that a claim holds is cut instead.
        SessionStore.claim_seconds = CLAIM_SECONDS / options.speed
        store = store_from_uri(options.uri, default_path="")
    store.open()
    {"serve": serve, "save": save, "churn": churn}[options.mode](store, options.seed)


def say(value: Any) -> None:
    sys.stdout.write(json.dumps(value, default=Unread.read) + "\n")
    sys.stdout.flush()


def serve(store: SessionStore, _: int) -> None:
    """Answer each call with its result, or with the name of its error."""
    say("open")
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            if name == "limit":
                resource.setrlimit(resource.RLIMIT_FSIZE, (arguments[0], resource.RLIM_INFINITY))
                say(None)
            elif name == "open_another":
                SQLiteStore(arguments[0]).open()
                say(None)
            elif name == "apply":
                store.apply(Batch(**arguments[0]))
                say(store.refused)
            else:
                say(plain(getattr(store, name)(*arguments)))
        except SessionFilterError as error:
            say({"error": type(error).__name__, "text": str(error)})


def plain(value: Any) -> Any:
    if isinstance(value, Claim):
        return {"token": value.token, "exits": sorted(value.exits), "rows": value.rows}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return sorted(value) if isinstance(value, set) else value


def save(store: SessionStore, _: int) -> None:
    """Save ten sessions again and again; say which round is safe."""
    round_ = max((r["uses"] for r in store.claim(SITE, []).rows), default=0)
    while True:
        round_ += 1
        rows = [row(n, uses=round_, learnt={"filling": "x" * 500 * n}) for n in range(10)]
        store.apply(Batch(f"round {round_}", rows, sites={SITE: {"round": round_}}))
        say(round_)


def churn(store: SessionStore, seed: int) -> None:
    """Count uses of whatever sessions are held; say what was tried and what is safe."""
    rng = random.Random(seed)
    held: dict[str, Row] = {}
    number = 0
    while True:
        try:
            for lost in store.renew().get(SITE, ()):
                held.pop(lost, None)
            for found in store.claim(SITE, [], most=rng.randrange(1, 5)).rows:
                held[found["id"]] = found
            give_back = rng.sample(sorted(held), rng.randrange(len(held) + 1) // 2)
            for id_ in give_back:
                del held[id_]
            store.release(SITE, give_back)
        except StoreError as error:
            say(["failed", str(error)])
        for id_ in sorted(held):
            number += 1
            count(store, held[id_], f"{store!r} {number}")
        time.sleep(rng.random() * 0.01)


def count(store: SessionStore, session: Row, batch: str) -> None:
    session["uses"] += 1
    say(["tried", session["id"]])
    while True:
        before = store.refused
        try:
            store.apply(Batch(batch, [session]))
        except StoreError as error:
            say(["failed", str(error)])
            continue
        say(["refused" if store.refused > before else "saved", session["id"]])
        return


if __name__ == "__main__":
    main()
