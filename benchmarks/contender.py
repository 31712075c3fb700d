"""The shipped pool and policy behind the arena's interface."""

from dataclasses import dataclass

try:
    from arena import Policy
except ImportError:
    from benchmarks.arena import Policy
from scrapy_session_filter.policies import PolicyContext
from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.pool import Limits, SessionPool
from scrapy_session_filter.proxies import EndpointHealth, SiteProxies
from scrapy_session_filter.session import Lease
from scrapy_session_filter.verdict import OK, Kind, Verdict, About

VERDICTS = {
    "ok": OK,
    "404": OK,
    "block": Verdict(Kind.BLOCKED, "status-403"),
    "neterr": Verdict(Kind.PROXY_ERROR, "timeout"),
    "5xx": Verdict(Kind.SITE_ERROR, "status-503"),
}


@dataclass(frozen=True, eq=False)
class Endpoint:
    key: str
    group: str | None
    per_session: bool


class Product(Policy):
    persists = True
    policy_class = AdaptivePolicy

    def __init__(self, pool, rng):
        super().__init__(pool, rng)
        self.now = 0.0
        self.health = EndpointHealth()
        self.pools = {}
        if pool.n is None:
            self.endpoints = [Endpoint("gw", None, True)]
            self.sids = {}
        else:
            self.endpoints = [Endpoint(str(i), str(pool.group(i)), False) for i in range(pool.n)]
            self.sids = {str(i): i for i in range(pool.n)}

    def site_pool(self, site):
        proxies = SiteProxies(self.endpoints, self.health, self.rng)
        policy = self.policy_class(
            PolicyContext(
                rng=self.rng,
                concurrency=self.pool.C,
                gateway=self.pool.n is None,
                free_groups=proxies.free_groups,
            )
        )
        return SessionPool(
            str(site),
            policy=policy,
            proxies=proxies,
            endpoint_health=self.health,
            headers=dict,
            limits=Limits(),
            clock=lambda: self.now,
            rng=self.rng,
        )

    def pick(self, now, site, attempt):
        self.now = now
        p = self.pools.get(site)
        if p is None:
            p = self.pools[site] = self.site_pool(site)
        lease = p.try_acquire(attempt=attempt)
        if not isinstance(lease, Lease):
            return -lease
        self.tag = lease
        s = lease.session
        if self.pool.n is not None:
            return self.sids[s.endpoint.key]
        sid = self.sids.get(s.id)
        if sid is None:
            sid = self.sids[s.id] = self.pool.new(self.rng)
        return sid

    def report(self, now, sid, site, kind, latency, tag):
        self.now = now
        self.pools[site].report(tag, VERDICTS[kind], sent=now - latency, latency=latency)

    def restarted(self, now):
        self.now = now
        for p in self.pools.values():
            for s in p.sessions.values():
                s.in_flight = 0
            p.policy.limit.scouting = 0
