"""The simulator: C slots that fetch pages through sessions a policy picks.

The policy cannot see the world. A slot takes the head of the frontier, asks the policy, and sends;
the request is judged then and reported after its latency. So answers come out of order, and after
picks made in between. A retry goes to the end of the frontier. Measures, per run:

* ``U`` = pages / (.5 requests + .5 C makespan / latency): requests and slot time weigh the same; 1
  means that every request succeeded at the median latency.
* ``succ`` = pages / requests, ``speed`` = ideal makespan / makespan, ``lost`` = pages not fetched,
  ``burnt`` = bans we caused, ``p95`` = retries a page, ``us`` = CPU of the policy in us a request.
* ``ratio`` (made by `benchmarks.run_arena`) = U / U of the `Oracle` on the same seed.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.worlds import DONE, Cfg, World

if TYPE_CHECKING:
    from collections.abc import Callable

Result = dict[str, float]


class Pool:
    """What a policy may know of the proxies.

    ``n`` sessions 0 .. n - 1 are the proxies of a list; None: a gateway with unlimited session ids.
    """

    def __init__(self, world: World) -> None:
        cfg = world.cfg
        self.n = cfg.n if cfg.pool == "list" else None
        self.C = cfg.C
        self._world = world
        self._next = 0

    def group(self, sid: int) -> int | None:
        """Return the subnet of a proxy, None at a gateway."""
        return None if self.n is None else self._world.subnet[sid]

    def new(self, rng: random.Random) -> int:
        """Return a fresh id at a gateway, a random proxy of a list."""
        if self.n is None:
            self._next += 1
            return self._next
        return int(rng.random() * self.n)


class Policy:
    """Subclass this to take part; all times are seconds on a clock that only runs forward."""

    persists = False  #: keeps its state over a restart; else it is built anew

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        self.pool = pool
        self.rng = rng
        self.tag: Any = (
            None  #: as it is when `pick` returns, it comes back in that request's report
        )

    def pick(self, now: float, site: int, attempt: int) -> float:
        """Return a session id, or -seconds to wait so long and be asked again.

        ``site`` is the vendor where visible, else the domain; ``attempt`` is 0 for a new page.
        """
        raise NotImplementedError

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        """Take in an answer: exactly once per pick, in the order in which they arrive."""

    def restarted(self, now: float) -> None:
        """Note that the process was restarted with our state; requests in flight are gone."""


@dataclass(slots=True)
class Page:
    attempts: int
    is404: bool
    domain: int


@dataclass(slots=True)
class Answer:
    sid: int
    ip: int
    page: Page
    kind: str
    latency: float
    site: int
    tag: Any


class Run:
    """One simulated crawl."""

    def __init__(
        self, cfg: Cfg, make: Callable[..., Any], seed: int, *, clairvoyant: bool = False
    ) -> None:
        self.cfg, self.make, self.clairvoyant = cfg, make, clairvoyant
        self.world = World(cfg, seed)
        self.pool = Pool(self.world)
        self.policy_rng = random.Random(seed * 7919 + 13)
        self.policy = make(self.world if clairvoyant else self.pool, self.policy_rng)
        self.page_rng = random.Random(seed + 555)
        self.undiscovered = cfg.pages
        self.frontier: deque[Page] = deque()
        self.events: list[tuple[float, int, Answer | None]] = []  # None: a slot is free
        self.count = 0
        self.now = self.gap = self.cpu = self.waited = 0.0
        self.requests = self.done = self.lost = self.idle_slots = 0
        self.retries: list[int] = []
        self.restarted = not cfg.restart_at
        self.finished_at: list[float] = []  #: when each page was finished, for plots

    def result(self) -> Result:
        """Run to the end and return the measures."""
        cfg = self.cfg
        ideal = cfg.pages * cfg.latency / cfg.C
        latest = ideal * cfg.tmax_factor + 600 + (cfg.restart_gap if cfg.restart_at else 0)
        self.events = [(slot * 0.01, slot, None) for slot in range(cfg.C)]
        self.count = cfg.C
        while self.events:
            self.now, _, answer = heapq.heappop(self.events)
            if answer is not None:
                self._receive(answer)
            if (
                self.done + self.lost >= cfg.pages
                or self.now > latest
                or self.requests > cfg.pages * 30
            ):
                break
            self._send()
        return self._measures()

    def _push(self, when: float, answer: Answer | None) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, answer))

    def _receive(self, answer: Answer) -> None:
        self.world.inflight[answer.ip] -= 1
        started = time.perf_counter()
        self.policy.report(
            self.now, answer.sid, answer.site, answer.kind, answer.latency, answer.tag
        )
        self.cpu += time.perf_counter() - started
        page = answer.page
        if answer.kind in DONE:
            self.done += 1
            self.retries.append(page.attempts)
            self.finished_at.append(self.now)
        elif page.attempts >= self.cfg.max_retries:
            self.lost += 1
            self.retries.append(page.attempts)
        else:
            page.attempts += 1
            self.frontier.append(page)
            if self.idle_slots:
                self.idle_slots -= 1
                self._push(self.now, None)
        if not self.restarted and self.done + self.lost >= self.cfg.restart_at * self.cfg.pages:
            self._restart()

    def _restart(self) -> None:
        """Requests in flight are forgotten: their pages come again, and are not charged for it."""
        self.restarted = True
        self.gap = self.cfg.restart_gap
        events: list[tuple[float, int, Answer | None]] = []
        for _, order, answer in self.events:
            if answer is not None:
                self.frontier.append(answer.page)
                self.requests -= 1
                self.world.inflight[answer.ip] -= 1
            events.append((self.now + self.gap + 0.01 * len(events), order, None))
        heapq.heapify(events)
        self.events = events
        self.now += self.gap
        if self.clairvoyant:
            return
        if self.policy.persists:
            self.policy.restarted(self.now)
        else:
            self.policy = self.make(Pool(self.world), self.policy_rng)
            self.policy.pool._next = self.pool._next + 10**6  # noqa: SLF001 - ids never come again

    def _send(self) -> None:
        cfg, frontier = self.cfg, self.frontier
        while self.undiscovered and len(frontier) < cfg.frontier:
            self.undiscovered -= 1
            is404 = self.page_rng.random() < cfg.p404
            frontier.append(Page(0, is404, int(self.page_rng.random() * cfg.domains)))
        if not frontier:
            self.idle_slots += 1
            return
        page = frontier[0]
        site = self.world.vendor_of[page.domain] if cfg.vendor_visible else page.domain
        started = time.perf_counter()
        sid = self.policy.pick(self.now, site, page.attempts)
        self.cpu += time.perf_counter() - started
        if sid < 0:
            self.waited -= sid
            if len(frontier) > 1 and cfg.domains > 1:
                frontier.rotate(-1)
            self._push(self.now - sid, None)
            return
        frontier.popleft()
        ip = sid if self.clairvoyant else self.world.ip_of(sid, self.now)
        kind, latency = self.world.serve(self.now, ip, page.domain, page.is404)
        self.world.inflight[ip] += 1
        self.requests += 1
        self._push(self.now + latency, Answer(sid, ip, page, kind, latency, site, self.policy.tag))

    def _measures(self) -> Result:
        cfg = self.cfg
        span = max(self.now - self.gap, 1e-9)
        retries = sorted(self.retries)
        cost = 0.5 * self.requests + 0.5 * cfg.C * span / cfg.latency
        return {
            "U": self.done / cost,
            "succ": self.done / max(self.requests, 1),
            "span": span,
            "speed": self.done * cfg.latency / cfg.C / span,
            "req": self.requests,
            "lost": cfg.pages - self.done,
            "burnt": self.world.burnt,
            "p95": retries[int(0.95 * (len(retries) - 1))] if retries else cfg.max_retries,
            "us": 1e6 * self.cpu / max(self.requests, 1),
            "waited": self.waited,
        }


def simulate(cfg: Cfg, make: Callable[..., Any], seed: int, *, clairvoyant: bool = False) -> Result:
    """Return the measures of one policy in one scenario with one seed."""
    return Run(cfg, make, seed, clairvoyant=clairvoyant).result()
