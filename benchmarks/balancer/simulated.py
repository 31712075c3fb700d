"""The same layouts in a simulator: a crawl takes half a second, so there can be many.

    python -m benchmarks.balancer.simulated --seeds 12
    python -m benchmarks.balancer.simulated --layouts small,slow --seeds 24
    python -m benchmarks.balancer.simulated --random 0:60 --seeds 2

The shipped pool and adaptive policy, on a clock of their own, against a site that counts as HAProxy
does: the requests in the window that began with the first, and those of the one before with the share
of it that is less than a window ago. Every layout with each seed at two latencies; prints the time
relative to what the limits allow, the worst of it, how many took over twice of it, and requests a page.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import deque
from dataclasses import dataclass
from multiprocessing import Pool as Processes
from statistics import fmean
from typing import Any

from benchmarks.balancer.layouts import LAYOUTS, Layout, names_of
from benchmarks.contender import Product
from benchmarks.worlds import log_uniform
from scrapy_session_filter.verdict import OK, Kind, Verdict

LATENCIES, SPREAD = (0.08, 0.2), 0.2
"""Seconds a request, median, and the log-normal spread of it."""
LONGEST = 600.0
"""Seconds after which a crawl is given up."""
NO_PAGE = 0.05
"""Seconds after which a slot without a page looks again."""


@dataclass
class Counter:
    """What the site knows of one address."""

    began: float = -math.inf
    count: int = 0
    before: int = 0
    banned_until: float = -math.inf

    def rate(self, now: float, window: float) -> float:
        """Count a request, and return how many there were within a window."""
        gone = now - self.began
        if gone >= 2 * window:
            self.began, self.count, self.before = now, 0, 0
        elif gone >= window:
            self.began, self.count, self.before = self.began + window, 0, self.count
        self.count += 1
        return self.count + self.before * max(0.0, 1 - (now - self.began) / window)


class Site:
    """The load balancer; ``good``: the exits that it lets in at all."""

    def __init__(self, layout: Layout, rng: random.Random) -> None:
        self.layout = layout
        self.good = set(rng.sample(range(layout.proxies), layout.good))
        self.counters = [Counter() for _ in range(layout.proxies)]
        told = layout.status == 429
        self.refusal = Verdict(
            Kind.THROTTLED if told else Kind.BLOCKED,
            f"status-{layout.status}",
            retry_after=layout.retry_after,
        )

    def serve(self, exit_: int, now: float) -> Verdict:
        """Judge a request."""
        layout, counter = self.layout, self.counters[exit_]
        if exit_ not in self.good:
            return self.refusal
        if counter.banned_until > now:
            if layout.prolongs:
                counter.banned_until = now + layout.ban
            return self.refusal
        if counter.rate(now, layout.window) <= layout.limit:
            return OK
        counter.banned_until = now + layout.ban
        return self.refusal


class Proxies:
    """What the pool may know of them; the arena's interface."""

    def __init__(self, layout: Layout) -> None:
        self.n, self.C = layout.proxies, layout.concurrency
        self._subnets = max(layout.subnets, math.ceil(layout.proxies / 250))  # a /24 has no more

    def group(self, sid: int) -> int:
        """Return the subnet of a proxy."""
        return sid * self._subnets // self.n


def simulate(layout: Layout, seed: int, latency: float) -> tuple[float, float]:
    """Crawl; return the time relative to what the limits allow, and requests a page."""
    rng = random.Random(seed)
    site = Site(layout, rng)
    product = Product(Proxies(layout), random.Random(seed + 1))  # type: ignore[arg-type]
    waiting = deque([0] * layout.pages)  # the pages' attempts
    events: list[tuple[float, int, Any]] = [(0.0, slot, None) for slot in range(layout.concurrency)]
    order, now, done, requests = layout.concurrency, 0.0, 0, 0
    while done < layout.pages and now < LONGEST:
        now, _, answer = heapq.heappop(events)
        if answer is not None:
            lease, verdict, sent, attempt = answer
            product.now = now
            product.pools[0].report(lease, verdict, sent=sent, latency=now - sent)
            if verdict is OK:
                done += 1
            else:
                waiting.append(attempt + 1)
        wait = NO_PAGE
        answer = None
        if waiting:
            got = product.pick(now, 0, waiting[0])
            wait = -got
            if got >= 0:
                answer = (product.tag, site.serve(int(got), now), now, waiting.popleft())
                requests += 1
                wait = latency * rng.lognormvariate(0.0, SPREAD)
        order += 1
        heapq.heappush(events, (now + wait, order, answer))
    return now / layout.allowed, requests / max(1, done)


def random_layout(number: int) -> Layout:
    """Return a layout of a wide family: a crawl that could go faster than the limits allow."""
    rng = random.Random(7000 + number)

    while True:
        proxies = int(log_uniform(rng, 12, 400))
        good = round(proxies * rng.choice((0.06, 0.1, 0.3, 0.4, 0.5, 0.7, 0.9, 1.0)))
        good = min(max(8, good), proxies)
        window, limit = rng.choice((5, 10, 10, 10, 15, 20, 30, 60)), int(log_uniform(rng, 5, 60))
        concurrency, rate = rng.choice((16, 32)), good * limit / window
        pages = int(rng.uniform(25, 60) * rate)
        if concurrency / fmean(LATENCIES) > 1.4 * rate and 400 <= pages <= 5000:
            return Layout(
                name=f"L{number}",
                pages=pages,
                proxies=proxies,
                good=good,
                limit=limit,
                window=window,
                ban=rng.choice((0, 0, 0, 10, 20, 30, 60)),
                status=rng.choice((403, 403, 429)),
                prolongs=rng.random() < 0.6,
                subnets=max(1, proxies // rng.choice((2, 16, 128))),
                concurrency=concurrency,
            )


def _row(name: str, results: list[tuple[float, float]]) -> str:
    times = [time for time, _ in results]
    over = sum(time > 2 for time in times)
    return (
        f"| {name} | {fmean(times):.2f} | {max(times):.2f} | {over} of {len(times)} | "
        f"{fmean(per_page for _, per_page in results):.2f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layouts", default=",".join(LAYOUTS), help="names (default: all)")
    parser.add_argument(
        "--random", metavar="FROM:TO", help="random layouts of these numbers instead"
    )
    parser.add_argument("--seeds", type=int, default=4)
    options = parser.parse_args()
    if options.random:
        layouts = [random_layout(number) for number in range(*map(int, options.random.split(":")))]
    else:
        layouts = [LAYOUTS[name] for name in names_of(options.layouts, LAYOUTS, "--layouts")]
    runs = [(seed, latency) for seed in range(1, options.seeds + 1) for latency in LATENCIES]
    print("| | time | worst | over twice | requests a page |\n|---|---:|---:|---:|---:|")
    everything = []
    with Processes() as processes:
        for layout in layouts:
            results = processes.starmap(simulate, [(layout, *run) for run in runs])
            everything += results
            print(_row(layout.name, results), flush=True)
    print(_row("all", everything))


if __name__ == "__main__":
    main()
