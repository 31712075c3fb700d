"""The hidden side of the simulator: proxies, and a site that bans them.

`Cfg` has every knob. `World.serve` judges a request when it is sent, in this order: transport
error, outage of the site, bans that come and go by themselves (churn), standing ban, subnet ban,
lifetime budget, rate limit (a leaky bucket of capacity r that drains r per window; over it: a ban),
subnet rate limit, soft block, and then 404 or a page. k requests in flight on one exit slow each
other down: latency x (1 + .1 (k - 1)). The draws are in a fixed order, so that a seed gives the same
world to all.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

INF = math.inf

OK = "ok"
NOTFOUND = "404"
BLOCK = "block"  #: a ban page, 403 or 429, already recognised
NETERR = "neterr"  #: time-out or reset
SRVERR = "5xx"
DONE = (OK, NOTFOUND)
"""The kinds of answer that finish a page."""

Range = tuple[float, float]


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    """Draw a number of which the logarithm is uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


@dataclass
class Cfg:
    """One scenario. Everything from `n` on is hidden from policies."""

    name: str = "S0"
    pages: int = 5000
    C: int = 32  #: concurrent requests
    max_retries: int = 10  #: a page is lost after 1 + max_retries attempts
    frontier: int = 500  #: pages known to the crawler at once; retries go to its end
    pool: str = "list"  #: "list": n proxies, subnets visible; "gateway": unlimited session ids
    n: int = 500  #: exits
    sticky: float = INF  #: gateway: a session id keeps its exit so many seconds
    per_subnet: int = 16
    latency: float = 1.5  #: seconds; median over proxies of a good answer's
    lat_sigma: float = 0.3  #: log-normal spread of it
    block_latency: float = 0.5
    timeout: float = 15.0
    prebanned: float = 0.0  #: share of exits banned for good before we start, per vendor
    sub_prebanned: float = 0.0  #: share of subnets of which 95 % is banned
    vendor_preban: tuple[float, ...] = ()  #: overrides `prebanned`, per vendor
    r: Range | None = None  #: log-uniform: requests allowed per window, exit and vendor
    window: float = 60.0
    ban: Range = (600.0, 600.0)  #: log-uniform, drawn per ban, in seconds
    p_perm: float = 0.0  #: a rate ban is for good with this chance
    hazard: bool = False  #: a soft limit: P(ban) = .25 (level / r) ** 3 a request
    extend: bool = False  #: a request sent while banned starts the ban again
    budget: Range | None = None  #: requests an exit may send in all; then it is banned for good
    sub_r: float = 0.0  #: requests allowed per window and subnet; 0: no limit
    sub_ban: float = 1800.0
    churn: Range | None = None  #: mean seconds good, mean seconds bad, whatever we do
    soft: Range | None = None  #: per proxy block chance, Beta(a, b)
    net: Range | None = None  #: per proxy transport error chance, Beta(a, b)
    p404: float = 0.0
    outages: tuple[
        tuple[float, float, str], ...
    ] = ()  #: (start, end, kind): so it is with chance .97
    domains: int = 1
    vendors: tuple[int, ...] = ()  #: vendor per domain; (): every domain has its own
    vendor_visible: bool = True  #: whether policies see the vendor (a fingerprint) or the domain
    restart_at: float = 0.0  #: share of pages after which the process restarts
    restart_gap: float = 1800.0
    tmax_factor: float = 25.0


class World:
    """Hidden state; only `serve` and `churned` advance it."""

    def __init__(self, cfg: Cfg, seed: int) -> None:
        self.cfg = cfg
        self.rng = g = random.Random(f"{cfg.name}/{seed}")
        n = cfg.n
        self.salt = g.getrandbits(32)
        self.vendor_of = list(cfg.vendors) or list(range(cfg.domains))
        vendors = max(self.vendor_of) + 1
        self.subnet = [i // cfg.per_subnet for i in range(n)]
        subnets = self.subnet[-1] + 1
        self.lat = [cfg.latency * g.lognormvariate(0, cfg.lat_sigma) for _ in range(n)]
        self.soft = [g.betavariate(*cfg.soft) if cfg.soft else 0.0 for _ in range(n)]
        self.net = [g.betavariate(*cfg.net) if cfg.net else 0.0 for _ in range(n)]
        self.until: list[list[float]] = []
        self.level = [[0.0] * n for _ in range(vendors)]
        self.level_at = [[0.0] * n for _ in range(vendors)]
        self.r: list[float] = []
        self.left: list[list[float] | None] = []
        bad_subnet = [g.random() < cfg.sub_prebanned for _ in range(subnets)]
        for v in range(vendors):
            share = cfg.vendor_preban[v] if cfg.vendor_preban else cfg.prebanned
            self.until.append(
                [
                    INF
                    if g.random() < share or (bad_subnet[self.subnet[i]] and g.random() < 0.95)
                    else 0.0
                    for i in range(n)
                ]
            )
            self.r.append(log_uniform(self.rng, *cfg.r) if cfg.r else 0.0)
            self.left.append([g.uniform(*cfg.budget) for _ in range(n)] if cfg.budget else None)
        self.sub_until = [[0.0] * subnets for _ in range(vendors)]
        self.sub_level = [[0.0] * subnets for _ in range(vendors)]
        self.sub_level_at = [[0.0] * subnets for _ in range(vendors)]
        self.bad: list[bool] | None = None
        self.toggle: list[float] = []
        if cfg.churn:
            good, bad = cfg.churn
            self.bad = [g.random() < bad / (good + bad) for _ in range(n)]
            self.toggle = [g.expovariate(1 / (bad if x else good)) for x in self.bad]
        self.burnt = 0
        self.inflight = [0] * n
        self.born: dict[int, float] = {}  # gateway: session id -> time of its first use

    def ip_of(self, sid: int, t: float) -> int:
        """Return the exit of a session now."""
        c = self.cfg
        if c.pool == "list":
            return sid
        born = self.born.setdefault(sid, t)
        epoch = 0 if c.sticky == INF else int((t - born) / c.sticky)
        x = (sid * 2654435761 + epoch * 40503 * 65537 + self.salt) & 0xFFFFFFFF
        x ^= x >> 16
        x = x * 0x45D9F3B & 0xFFFFFFFF
        x ^= x >> 16
        return x % c.n

    def outage(self, t: float) -> str | None:
        """Return the kind of answer that the site gives to all, or None."""
        for start, end, kind in self.cfg.outages:
            if start <= t < end:
                return kind
        return None

    def churned(self, ip: int, t: float) -> bool:
        """Return whether an exit is banned by churn now."""
        if self.bad is None or self.cfg.churn is None:
            return False
        good, bad = self.cfg.churn
        toggle = self.toggle[ip]
        while toggle <= t:
            self.bad[ip] = not self.bad[ip]
            toggle += self.rng.expovariate(1 / (bad if self.bad[ip] else good))
        self.toggle[ip] = toggle
        return self.bad[ip]

    def serve(self, t: float, ip: int, domain: int, is404: bool) -> tuple[str, float]:
        """Return kind and latency of the answer to a request sent at ``t``."""
        c, rnd = self.cfg, self.rng.random
        latency = self.lat[ip] * (0.7 + 0.6 * rnd()) * (1 + 0.1 * self.inflight[ip])
        if rnd() < self.net[ip]:
            return NETERR, c.timeout * (0.1 + 0.9 * rnd())
        block_latency = c.block_latency * (0.5 + rnd())
        if c.outages:
            kind = self.outage(t)
            if kind and rnd() < 0.97:
                return kind, block_latency
        v = self.vendor_of[domain]
        if (
            self.churned(ip, t)
            or self._banned(t, ip, v)
            or self._spent(ip, v)
            or self._too_fast(t, ip, v)
            or self._subnet_too_fast(t, ip, v)
            or rnd() < self.soft[ip]
        ):
            return BLOCK, block_latency
        return (NOTFOUND if is404 else OK), latency

    def _banned(self, t: float, ip: int, v: int) -> bool:
        until = self.until[v]
        if until[ip] > t:
            if self.cfg.extend and until[ip] < INF:
                until[ip] = t + self.cfg.ban[0]
            return True
        return self.sub_until[v][self.subnet[ip]] > t

    def _spent(self, ip: int, v: int) -> bool:
        left = self.left[v]
        if left is None:
            return False
        left[ip] -= 1
        if left[ip] >= 0:
            return False
        self.until[v][ip] = INF
        self.burnt += 1
        return True

    def _too_fast(self, t: float, ip: int, v: int) -> bool:
        c, r = self.cfg, self.r[v]
        if not r:
            return False
        level = self.level[v][ip] - (t - self.level_at[v][ip]) * r / c.window
        level = (level if level > 0 else 0.0) + 1
        self.level[v][ip] = level
        self.level_at[v][ip] = t
        if not (self.rng.random() < 0.25 * (level / r) ** 3 if c.hazard else level > r):
            return False
        self.burnt += 1
        self.level[v][ip] = 0.0
        for_good = self.rng.random() < c.p_perm
        self.until[v][ip] = INF if for_good else t + log_uniform(self.rng, *c.ban)
        return True

    def _subnet_too_fast(self, t: float, ip: int, v: int) -> bool:
        c = self.cfg
        if not c.sub_r:
            return False
        s = self.subnet[ip]
        level = self.sub_level[v][s] - (t - self.sub_level_at[v][s]) * c.sub_r / c.window
        level = (level if level > 0 else 0.0) + 1
        self.sub_level[v][s] = level
        self.sub_level_at[v][s] = t
        if level <= c.sub_r:
            return False
        self.burnt += c.per_subnet
        self.sub_level[v][s] = 0.0
        self.sub_until[v][s] = t + c.sub_ban
        return True


def scenarios() -> list[Cfg]:
    """Return the 18 named scenarios."""
    outage_5xx, outage_403 = ((60, 130, SRVERR),), ((60, 150, BLOCK),)
    return [
        Cfg("S0 easy", n=300),
        Cfg("S1a preban70", n=1000, prebanned=0.70),
        Cfg("S1b preban95", n=3000, prebanned=0.95, r=(40, 90)),
        Cfg("S2a ratelimit", n=300, r=(6, 40), ban=(300, 1800), p_perm=0.1),
        Cfg("S2b tight", n=60, r=(8, 16), ban=(120, 600), extend=True, tmax_factor=40),
        Cfg("S2c hazard", n=300, r=(10, 60), hazard=True, ban=(300, 1800)),
        Cfg("S2d budget", n=2000, budget=(5, 60), prebanned=0.3),
        Cfg("S3 subnet", n=1600, per_subnet=16, sub_prebanned=0.6, sub_r=60, sub_ban=900),
        Cfg("S4 churn", n=500, churn=(200, 300), C=16, latency=2.0),
        Cfg("S5 soft", n=300, soft=(0.7, 3), net=(1, 15), r=(30, 90)),
        Cfg("S6 n20", n=20, C=16, r=(25, 50), ban=(120, 600), prebanned=0.15),
        Cfg("S7a gate24h", pool="gateway", n=5000, prebanned=0.3, r=(15, 40), ban=(3600, 3600)),
        Cfg(
            "S7b gate5min",
            pool="gateway",
            n=5000,
            sticky=300,
            prebanned=0.5,
            C=16,
            latency=2.5,
            r=(15, 60),
            ban=(3600, 3600),
        ),
        Cfg(
            "S8 vendors",
            n=600,
            domains=12,
            vendors=(0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 5),
            vendor_preban=(0.6, 0.4, 0.1, 0.2, 0.3, 0.1),
            r=(20, 80),
            ban=(600, 1800),
        ),
        Cfg(
            "S9a 5xx+404",
            n=200,
            prebanned=0.2,
            p404=0.15,
            outages=outage_5xx,
            net=(1, 30),
            r=(30, 60),
        ),
        Cfg(
            "S9b 403all",
            n=200,
            prebanned=0.2,
            p404=0.15,
            outages=outage_403,
            net=(1, 30),
            r=(30, 60),
        ),
        Cfg("S10 restart", n=2000, prebanned=0.85, r=(30, 60), ban=(1200, 3600), restart_at=0.4),
        Cfg(
            "S11 mixed",
            n=1000,
            sub_prebanned=0.3,
            prebanned=0.2,
            r=(15, 60),
            ban=(300, 3600),
            p_perm=0.1,
            churn=(900, 600),
            soft=(0.3, 6),
            net=(0.5, 15),
            p404=0.08,
            outages=((120, 150, SRVERR),),
        ),
    ]


RATE_LIMITED = Cfg(
    "80 good of 200, 20 per 10 s",
    pages=4000,
    n=200,
    prebanned=0.6,
    r=(20, 20),
    window=10,
    ban=(10, 10),
    extend=True,
    latency=0.1,
    block_latency=0.02,
)
"""The crawl whose pages are drawn over time: it could ask for twice what the limits allow, and a
request sent during a ban starts it again."""


def random_world(i: int) -> Cfg:  # noqa: C901, PLR0912 - a list of independent draws
    """Return world ``i`` of a wide family: pools, limits, windows, bans and outages at random."""
    g = random.Random(90000 + i)

    gateway = g.random() < 0.35
    n = int(log_uniform(g, 15, 6000)) if not gateway else int(log_uniform(g, 300, 20000))
    c = Cfg(
        f"R{i}",
        pages=4000,
        C=g.choice([8, 16, 32, 64]),
        n=n,
        pool="gateway" if gateway else "list",
        latency=log_uniform(g, 0.5, 4),
        lat_sigma=g.uniform(0.1, 0.7),
        per_subnet=g.choice([1, 8, 32, 128]),
    )
    c.block_latency = c.latency * g.uniform(0.2, 1)
    if gateway:
        c.sticky = g.choice([60, 300, 600, INF, INF])
    demand = c.C / c.latency
    if g.random() < 0.7:
        c.prebanned = g.choice([0.1, 0.3, 0.5, 0.7, 0.9, 0.95])
    if n < 60:
        c.prebanned = min(c.prebanned, 0.5)
    if g.random() < 0.25:
        c.sub_prebanned = g.uniform(0.2, 0.7)
    good = max(n * (1 - c.prebanned) * (1 - c.sub_prebanned), 1)
    if g.random() < 0.65:
        c.window = g.choice([10, 60, 60, 300, 1800])
        # capacity .4 to 30 x demand
        r = max(3.0, demand * c.window * log_uniform(g, 0.4, 30) / good)
        c.r = (r * 0.8, r * 1.2)
        c.ban = g.choice([(60, 60), (600, 600), (100, 2000), (7200, 7200)])
        c.p_perm = g.choice([0, 0, 0.1, 0.5])
        c.hazard = g.random() < 0.25
        c.extend = g.random() < 0.3
    elif g.random() < 0.3 and n > 500:
        c.budget = (5, log_uniform(g, 30, 300))
    if g.random() < 0.2:
        subnets = n / c.per_subnet * (1 - c.sub_prebanned)
        c.sub_r = max(5.0, 60 * demand * g.uniform(2, 8) / max(subnets, 1))
    if g.random() < 0.3:
        c.churn = (log_uniform(g, 100, 3000), log_uniform(g, 100, 2000))
    if g.random() < 0.35:
        c.soft = g.choice([(0.3, 6), (0.7, 3), (1, 9)])
    if g.random() < 0.5:
        c.net = g.choice([(0.5, 15), (1, 15), (1, 40)])
    if g.random() < 0.5:
        c.p404 = g.uniform(0, 0.25)
    if g.random() < 0.3:
        start = g.uniform(0.1, 0.8) * c.pages * c.latency / c.C
        c.outages = ((start, start + g.uniform(20, 120), g.choice([SRVERR, BLOCK])),)
    if g.random() < 0.2:
        c.domains = 6
        c.vendors = (0, 0, 0, 1, 1, 2)
    if g.random() < 0.15:
        c.restart_at = 0.5
    return c


def chosen_worlds(names: str, random: str) -> list[Cfg]:
    """Return the worlds that a command line names.

    ``names``: comma-separated beginnings of scenarios' names. ``random``: ``FROM:TO``, the numbers of
    random worlds instead, or empty.
    """
    if random:
        first, last = map(int, random.split(":"))
        return [random_world(number) for number in range(first, last)]
    wanted = tuple(names.split(","))
    return [config for config in scenarios() if config.name.startswith(wanted)]
