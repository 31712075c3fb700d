"""How others pick sessions, and two bandits from textbooks, behind the arena's interface.

Each class names its source. They run with their defaults and are not tuned for these worlds.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING, Any

from benchmarks.arena import Policy, Pool
from benchmarks.worlds import BLOCK, DONE, NETERR, OK

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

GATEWAY_IDS = 1000
"""How many fixed session ids stand for the list, at a gateway, of those who know lists only."""


def _ids(pool: Pool, rng: random.Random) -> list[int]:
    return list(range(pool.n)) if pool.n else [pool.new(rng) for _ in range(GATEWAY_IDS)]


class _Bag:
    """Ids with O(1) add, discard and draw; the order of draws is part of the reference runs."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.place = {sid: i for i, sid in enumerate(ids)}

    def add(self, sid: int) -> None:
        if sid not in self.place:
            self.place[sid] = len(self.ids)
            self.ids.append(sid)

    def discard(self, sid: int) -> None:
        i = self.place.pop(sid, None)
        if i is not None:
            last = self.ids.pop()
            if last != sid:
                self.ids[i] = last
                self.place[last] = i

    def draw(self, rng: random.Random) -> int:
        return self.ids[int(rng.random() * len(self.ids))]


class Uniform(Policy):
    """A random proxy, or a fresh gateway session: scrapy-rotating-proxy and the like."""

    def pick(self, now: float, site: int, attempt: int) -> float:
        return self.pool.new(self.rng)


class RoundRobin(Policy):
    """The next proxy of the list."""

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        self.ids = _ids(pool, rng)
        rng.shuffle(self.ids)
        self.i = 0

    def pick(self, now: float, site: int, attempt: int) -> float:
        self.i = (self.i + 1) % len(self.ids)
        return self.ids[self.i]


class Article(Policy):
    """Apify, "Filter out blocked proxies using sessions": pick_session(sessions, max_sessions)."""

    MAX_SESSIONS = 100

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        self.working = _Bag([])

    def pick(self, now: float, site: int, attempt: int) -> float:
        n = len(self.working.ids)
        if n and self.rng.random() < n / self.MAX_SESSIONS:
            return self.working.draw(self.rng)
        return self.pool.new(self.rng)

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        if kind in DONE:
            self.working.add(sid)
        else:
            self.working.discard(sid)


class Article20(Article):
    MAX_SESSIONS = 20


class Article500(Article):
    MAX_SESSIONS = 500


class _CrawleeSession:
    __slots__ = ("born", "errors", "sid", "uses")

    def __init__(self, sid: int, born: float) -> None:
        self.sid = sid
        self.born = born
        self.uses = 0
        self.errors = 0.0

    def usable(self, now: float) -> bool:
        return self.uses < 50 and self.errors < 3 and now - self.born < 3000


class Crawlee(Policy):
    """Crawlee's SessionPool (JS 3.9, Python): filled to 1000, a random pick.

    If that is unusable, all unusable ones are dropped and one is made. 50 uses, error score 3,
    minus .5 per success, 3000 s; 401, 403, 429 retire at once. With a list, a session is bound to
    the next URL. The state persists.
    """

    persists = True
    SIZE = 1000

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        self.sessions: list[_CrawleeSession] = []
        self.next = 0

    def _new(self, now: float) -> _CrawleeSession:
        if self.pool.n:
            sid = self.next % self.pool.n
            self.next += 1
        else:
            sid = self.pool.new(self.rng)
        session = _CrawleeSession(sid, now)
        self.sessions.append(session)
        return session

    def pick(self, now: float, site: int, attempt: int) -> float:
        while len(self.sessions) < self.SIZE:
            self._new(now)
        session = self.sessions[int(self.rng.random() * len(self.sessions))]
        if not session.usable(now):
            self.sessions = [s for s in self.sessions if s.usable(now)]
            session = self._new(now)
        self.tag = session
        return session.sid

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        tag.uses += 1
        if kind in DONE:
            tag.errors = max(0.0, tag.errors - 0.5)
        else:
            tag.errors += 3 if kind == BLOCK else 1


class RotatingProxies(Policy):
    """scrapy-rotating-proxies, expire.py: a random one of those good or unchecked.

    Dead ones come back after a full-jitter exponential backoff (base 300 s, cap 3600 s), looked at
    each 5 s; all of them when none is left. Its ban policy calls every status but 200, 301 and 302,
    and every exception, a ban: 404 and 5xx kill a proxy.
    """

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        self.alive = _Bag(_ids(pool, rng))
        self.dead: dict[int, float] = {}
        self.attempts: dict[int, int] = {}
        self.look_at = 0.0

    def pick(self, now: float, site: int, attempt: int) -> float:
        if now >= self.look_at:
            self.look_at = now + 5
            for sid in [sid for sid, until in self.dead.items() if until <= now]:
                del self.dead[sid]
                self.alive.add(sid)
        if not self.alive.ids:
            for sid in self.dead:
                self.alive.add(sid)
            self.dead.clear()
        return self.alive.draw(self.rng)

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        if kind == OK:
            self.dead.pop(sid, None)
            self.alive.add(sid)
            self.attempts[sid] = 0
        else:
            self.alive.discard(sid)
            tried = self.attempts.get(sid, 0)
            self.dead[sid] = now + self.rng.uniform(0, min(3600, 300 * 2 ** min(tried, 5)))
            self.attempts[sid] = tried + 1


class Zyte(Policy):
    """scrapy-zyte-api, _session.py: per domain a queue of 8 sessions, replaced at the first error.

    Its request that opens a session is not charged, which flatters it.
    """

    SIZE = 8

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        self.queues: dict[int, tuple[deque[int], set[int]]] = {}

    def pick(self, now: float, site: int, attempt: int) -> float:
        queue, alive = self.queues.setdefault(site, (deque(), set()))
        size = self.SIZE if self.pool.n is None else min(self.SIZE, self.pool.n)
        while len(alive) < size:
            sid = self.pool.new(self.rng)
            if sid not in alive:
                alive.add(sid)
                queue.append(sid)
        while True:
            sid = queue.popleft()
            if sid in alive:
                queue.append(sid)
                return sid

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        if kind not in DONE:
            self.queues[site][1].discard(sid)


class LeastRecent(Policy):
    """Scrapoxy's choice, the least recently used, and our addition: 600 s of rest after a block."""

    REST = 600

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        ids = _ids(pool, rng)
        rng.shuffle(ids)
        self.queue = [(0.0, i, sid) for i, sid in enumerate(ids)]
        self.count = len(ids)
        self.resting: dict[int, float] = {}

    def pick(self, now: float, site: int, attempt: int) -> float:
        while True:
            when, _, sid = heapq.heappop(self.queue)
            wake = self.resting.get(sid, 0.0)
            self.count += 1
            if wake > now and when < wake:
                heapq.heappush(self.queue, (wake, self.count, sid))
                continue
            heapq.heappush(self.queue, (max(now, when), self.count, sid))
            return sid

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        if kind in (BLOCK, NETERR):
            self.resting[sid] = now + self.REST


class Thompson(Policy):
    """Thompson sampling, discounted by .98 per observation, among 64 random candidates a pick."""

    DISCOUNT, LOOK = 0.98, 64

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        self.ids = _ids(pool, rng)
        self.good: dict[int, float] = {}
        self.bad: dict[int, float] = {}

    def pick(self, now: float, site: int, attempt: int) -> float:
        ids, rng = self.ids, self.rng
        n = len(ids)
        few = ids if n <= self.LOOK else [ids[int(rng.random() * n)] for _ in range(self.LOOK)]
        best, best_value = few[0], -1.0
        for sid in few:
            good = self.good.get(sid)
            value = rng.random() if good is None else rng.betavariate(1 + good, 1 + self.bad[sid])
            if value > best_value:
                best, best_value = sid, value
        return best

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        ok = kind in DONE
        self.good[sid] = self.good.get(sid, 0.0) * self.DISCOUNT + ok
        self.bad[sid] = self.bad.get(sid, 0.0) * self.DISCOUNT + (not ok)


class UcbAir(Policy):
    """UCB-AIR (Wang, Audibert, Munos 2008): UCB-V over 2 sqrt(t) arms, forgetting by .99."""

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        self.arms: list[int] = []
        self.state: dict[int, list[float]] = {}
        self.t = 0
        self.fresh: list[int] | None = None
        if pool.n:
            self.fresh = list(range(pool.n))
            rng.shuffle(self.fresh)

    def pick(self, now: float, site: int, attempt: int) -> float:
        self.t += 1
        if len(self.arms) < math.sqrt(self.t) * 2 and (self.fresh is None or self.fresh):
            sid = self.fresh.pop() if self.fresh else self.pool.new(self.rng)
            self.arms.append(sid)
            self.state[sid] = [0.0, 0.0, 1.0]
            return sid
        explore = 0.2 * math.log(self.t + 2)
        best, best_value = self.arms[0], -1e9
        for sid in self.arms:
            good, bad, flying = self.state[sid]
            n = good + bad
            if n == 0:
                value = 2 - flying
            else:
                m = good / n
                value = m + math.sqrt(2 * m * (1 - m) * explore / n) + 3 * explore / n
                value -= flying * 0.05
            if value > best_value:
                best, best_value = sid, value
        self.state[best][2] += 1
        return best

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        state = self.state[sid]
        state[0] *= 0.99
        state[1] *= 0.99
        state[2] -= 1
        state[kind not in DONE] += 1


class Mortal(Policy):
    """Mortal bandits (Chakrabarti et al. 2008), adapted: keep C arms that work, play them in turn.

    One that fails is dropped; a fresh one is tried where fewer than C are left.
    """

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        self.queue: deque[int] = deque()
        self.alive: set[int] = set()

    def pick(self, now: float, site: int, attempt: int) -> float:
        while len(self.alive) >= self.pool.C:
            sid = self.queue.popleft()
            if sid in self.alive:
                self.queue.append(sid)
                return sid
        return self.pool.new(self.rng)

    def report(self, now: float, sid: int, site: int, kind: str, latency: float, tag: Any) -> None:
        if kind not in DONE:
            self.alive.discard(sid)
        elif sid not in self.alive:
            self.alive.add(sid)
            self.queue.append(sid)


PEERS: dict[str, Callable[[Pool, random.Random], Policy]] = {
    "uniform": Uniform,
    "roundrobin": RoundRobin,
    "article20": Article20,
    "article100": Article,
    "article500": Article500,
    "crawlee": Crawlee,
    "rotating": RotatingProxies,
    "zyte8": Zyte,
    "lru600": LeastRecent,
    "mortal": Mortal,
    "thompson": Thompson,
    "ucbair": UcbAir,
}
"""The policies of the peer table, by the names it uses."""
