"""Crawls the shop with several processes that share URLs and sessions; prints who did what.

The URLs are shared through scrapy-redis, the sessions through ``SESSION_FILTER_STORE`` =
``redis://...``; Redis server, shop and proxies run on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopback import World
from loopback.redis_server import redis_server
from loopback.shop import PER_LIST
from loopback.suffixes import local_suffix_list
from redis import Redis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from loopback import Visit

HERE = Path(__file__).parent
STATE = HERE / ".scrapy" / "distributed"
EXITS = 48
BANS = ("forbidden", "captcha", "captcha-gzip", "captcha-redirect")
BANNED = 0.1  # share of the exits that gets each of these answers
LEARNT = 1.0  # seconds after which all processes must know of a ban


def main() -> None:
    """Run the crawl and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--products", type=int, default=320, help="a list page shows 20 of them")
    options = parser.parse_args()
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir(parents=True)
    names = [str(number) for number in range(1, options.processes + 1)]
    with World(EXITS, products=options.products, latency=0.25, tls=False) as world:
        exits = world.pick_exits(len(BANS) * BANNED)
        for number, answer in enumerate(BANS):
            world.ban(exits[number :: len(BANS)], answer)
        with redis_server() as redis:
            seconds = crawl(names, redis, world)
        show(names, world.site.visits, set(exits), options.products, seconds)


def crawl(names: list[str], redis: str, world: World) -> float:
    """Put the list pages into Redis, run a process per name until all have ended."""
    proxies = STATE / "proxies.txt"
    proxies.write_text("\n".join(world.proxies()), encoding="utf-8")
    with Redis.from_url(redis) as client:
        for number in range(1, world.site.shop.lists + 1):
            start = json.dumps({"url": world.url(f"/list/{number}")})
            client.rpush("shared_shop:start_urls", start)
    began = time.monotonic()
    processes = [start_process(name, redis, proxies) for name in names]
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"the crawls ended with exit codes {codes}; their logs are in {STATE}")
    with Redis.from_url(redis) as client:
        if left := client.zcard("shared_shop:requests"):
            sys.exit(f"{left} requests are left in the queue; the logs are in {STATE}")
    return time.monotonic() - began


def start_process(name: str, redis: str, proxies: Path) -> subprocess.Popen[bytes]:
    """Start ``scrapy crawl``; a header tells the shop which process asks."""
    settings = {
        "REDIS_URL": redis,
        "SESSION_FILTER_STORE": redis,
        "SESSION_FILTER_PROXIES": str(proxies),
        "DEFAULT_REQUEST_HEADERS": json.dumps({"X-Process": name}),
        "LOG_FILE": str(STATE / f"{name}.log"),
    }
    command = [sys.executable, "-m", "scrapy", "crawl", "shared_shop"]
    command += ["-o", str(STATE / f"{name}.jsonl")]
    for key, value in settings.items():
        command += ["-s", f"{key}={value}"]
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    env |= local_suffix_list(HERE / ".scrapy" / "suffix-list")
    print(f"process {name} ...", flush=True)
    return subprocess.Popen(command, cwd=HERE, env={**env, "SCRAPY_PROJECT": "distributed"})


def show(
    names: list[str], visits: list[Visit], banned: set[str], products: int, seconds: float
) -> None:
    """Print a line for each process and one for all; requests and blocks are the shop's count."""
    requests = Counter(visit.headers["x-process"] for visit in visits)
    blocked = Counter(visit.headers["x-process"] for visit in visits if visit.block)
    used = used_after_ban(visits, banned)
    got = {name: pages(name) for name in names}
    print()
    print(line("", "pages", "requests", "blocked", "requests a page", "known bans used"))
    for name in names:
        print(row(f"process {name}", len(got[name]), requests[name], blocked[name], used[name]))
    different = set().union(*got.values())
    totals = (len(different), requests.total(), blocked.total(), used.total())
    print(row("together", *totals))
    expected = products + -(-products // PER_LIST)
    print(f"\n{len(different)} of {expected} pages in {seconds:.1f} s.")
    print(f"Known bans used: requests through a banned proxy more than {LEARNT:.0f} s after")
    print("another process had been refused through it.")


def pages(name: str) -> set[str]:
    """Return the URLs of a process's items."""
    path = STATE / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {json.loads(line)["url"] for line in lines}


def used_after_ban(visits: Iterable[Visit], banned: set[str]) -> Counter[str]:
    """Count, by process, visits through a ban that another process had learnt of in good time."""
    first: dict[tuple[str, str], float] = {}
    used: Counter[str] = Counter()
    for visit in visits:
        process = visit.headers["x-process"]
        known = [
            when for (exit_, who), when in first.items() if exit_ == visit.exit and who != process
        ]
        if visit.exit in banned and known and visit.time > min(known) + LEARNT:
            used[process] += 1
        if visit.block:
            first.setdefault((visit.exit, process), visit.time)
    return used


def row(name: str, page_count: int, requests: int, blocked: int, used: int) -> str:
    """Return one line of the table."""
    share = f"{requests / max(page_count, 1):.2f}"
    return line(name, str(page_count), str(requests), str(blocked), share, str(used))


def line(name: str, *cells: Any) -> str:
    """Return a line in columns."""
    widths = (8, 11, 10, 18, 18)
    return f"{name:<12}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)
    )


if __name__ == "__main__":
    main()
