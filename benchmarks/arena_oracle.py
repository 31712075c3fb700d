"""What nobody can beat by much: policies that see the whole hidden world.

Clairvoyant and greedy: the oracle sees bans, limits, outages and latencies, never causes a ban,
takes the cheapest exit that would answer now and waits where there is none. An upper bound in
practice, not a proven optimum. `OracleNoLatency` knows all that but latency: what a policy gains on
it is latency.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from benchmarks.worlds import INF, World

if TYPE_CHECKING:
    import random


class Oracle:
    """Picks exits, not sessions."""

    persists = True

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.tag: Any = None
        self.cost = [self._cost(ip) for ip in range(world.cfg.n)]
        self.order: dict[int, list[tuple[float, int]]] = {}  # vendor: free exits, cheapest first
        self.wake: dict[int, list[tuple[float, int]]] = {}
        self.out: dict[int, int] = {}  # exits in use: their vendor

    def _cost(self, ip: int) -> float:
        """Return what a page through this exit costs in the long run."""
        w, c = self.world, self.world.cfg
        p = (1 - w.soft[ip]) * (1 - w.net[ip])
        ok = 0.5 + 0.5 * w.lat[ip] / c.latency
        block = 0.5 + 0.5 * c.block_latency / c.latency
        net = 0.5 + 0.5 * 0.55 * c.timeout / c.latency
        answered = (1 - w.soft[ip]) * ok + w.soft[ip] * block
        return ((1 - w.net[ip]) * answered + w.net[ip] * net) / max(p, 1e-6)

    def available_in(self, ip: int, v: int, t: float) -> float:
        """Return the seconds until an exit can be used without harm; 0: now."""
        w, c = self.world, self.world.cfg
        if w.churned(ip, t):
            return max(w.toggle[ip] - t, 0.01)
        if w.until[v][ip] > t:
            return w.until[v][ip] - t
        s = w.subnet[ip]
        if w.sub_until[v][s] > t:
            return w.sub_until[v][s] - t
        left = w.left[v]
        if left is not None and left[ip] < 1:
            return INF
        delay = 0.0
        r = w.r[v]
        if r:
            limit = max(r * 0.3, 1.0) if c.hazard else r
            level = w.level[v][ip] - (t - w.level_at[v][ip]) * r / c.window
            if level + 1 > limit:
                delay = (level + 1 - limit) * c.window / r + 1e-6
        if c.sub_r:
            level = w.sub_level[v][s] - (t - w.sub_level_at[v][s]) * c.sub_r / c.window
            if level + 1 > c.sub_r:
                delay = max(delay, (level + 1 - c.sub_r) * c.window / c.sub_r + 1e-6)
        return delay

    def pick(self, now: float, site: int, attempt: int) -> float:
        w = self.world
        if w.outage(now):
            return -max(0.05, min(b - now for a, b, _ in w.cfg.outages if a <= now < b))
        vendor = site if w.cfg.vendor_visible else w.vendor_of[site]
        free = self.order.get(vendor)
        if free is None:
            free = [(self.cost[ip], ip) for ip in range(w.cfg.n) if w.until[vendor][ip] < INF]
            heapq.heapify(free)
            self.order[vendor] = free
            self.wake[vendor] = []
        waking = self.wake[vendor]
        while waking and waking[0][0] <= now:
            ip = heapq.heappop(waking)[1]
            heapq.heappush(free, (self.cost[ip], ip))
        while free:
            ip = heapq.heappop(free)[1]
            delay = self.available_in(ip, vendor, now)
            if delay <= 0:
                self.out[ip] = vendor
                return ip
            if delay < INF:
                heapq.heappush(waking, (now + delay, ip))
        best: int | None = None  # all free ones are in flight: share one
        for ip, v in self.out.items():
            if (
                v == vendor
                and (best is None or w.inflight[ip] < w.inflight[best])
                and self.available_in(ip, vendor, now) <= 0
            ):
                best = ip
        if best is not None:
            return best
        return -min(max(waking[0][0] - now, 1e-3), 0.5) if waking else -0.5

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        vendor = self.out.pop(sid, None)  # one request per exit at a time where possible
        if vendor is not None:
            heapq.heappush(self.order[vendor], (self.cost[sid], sid))


class OracleNoLatency(Oracle):
    """The oracle without knowledge of latency."""

    def __init__(self, world: World, rng: random.Random) -> None:
        super().__init__(world, rng)
        w = world
        self.cost = [
            1 / max((1 - w.soft[ip]) * (1 - w.net[ip]), 1e-6) + 1e-6 * rng.random()
            for ip in range(w.cfg.n)
        ]
        if not (w.cfg.soft or w.cfg.net):
            self.cost = [rng.random() for _ in self.cost]
