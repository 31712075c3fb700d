"""The shipped pool and the shipped default policy behind the arena's interface.

The proxies of a list become endpoints 10.a.b.c whose /24 is the arena's subnet; the session ids of a
gateway become sessions of one gateway endpoint. A restart saves everything as JSON and builds new
pools from it. Works with this project's arena and with any other module named ``arena`` that has the
same `Policy`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies import PolicyContext
from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.pool import Limits, SessionPool
from scrapy_session_filter.proxies import EndpointHealth, SiteProxies
from scrapy_session_filter.proxies.parsing import parse_proxy
from scrapy_session_filter.session import Lease, Row
from scrapy_session_filter.snapshot import restore, site_state, take_changes
from scrapy_session_filter.verdict import OK, Kind, Verdict

if TYPE_CHECKING:
    import random

    from benchmarks.arena import Policy, Pool
    from scrapy_session_filter.policies import Policy as SessionPolicy
    from scrapy_session_filter.proxies.endpoint import ProxyEndpoint
    from scrapy_session_filter.session import Session
else:
    try:
        from arena import Policy
    except ImportError:
        from benchmarks.arena import Policy

VERDICTS = {
    "ok": OK,
    "404": OK,
    "block": Verdict(Kind.BLOCKED, "status-403"),
    "neterr": Verdict(Kind.PROXY_ERROR, "timeout"),
    "5xx": Verdict(Kind.SITE_ERROR, "status-503"),
}
GATEWAY = "http://user-{session}:secret@gateway.example:8000"


class Product(Policy):
    """One pool per site, as in a crawl; their endpoints' health is shared."""

    persists = True
    policy_class: type[SessionPolicy] = AdaptivePolicy
    limits = Limits()

    def __init__(self, pool: Pool, rng: random.Random) -> None:
        super().__init__(pool, rng)
        self.now = 0.0
        self.health = EndpointHealth()
        self.pools: dict[Any, SessionPool] = {}
        self.sids: dict[str, int] = {}  # endpoint key (gateway: session id) -> the arena's id
        self.endpoints = self._endpoints()

    def _endpoints(self) -> list[ProxyEndpoint]:
        if self.pool.n is None:
            return [parse_proxy(GATEWAY, setting="SESSION_FILTER_PROXY")]
        endpoints = []
        members: dict[int, int] = {}
        for sid in range(self.pool.n):
            group = self.pool.group(sid) or 0
            member = members[group] = members.get(group, 0) + 1
            url = f"http://10.{group >> 8}.{group & 255}.{member}:8000"
            endpoint = parse_proxy(url, setting="SESSION_FILTER_PROXIES")
            self.sids[endpoint.key] = sid
            endpoints.append(endpoint)
        return endpoints

    def _new_pool(self, site: Any) -> SessionPool:
        proxies = SiteProxies(self.endpoints, self.health, self.rng)
        context = PolicyContext(
            rng=self.rng,
            concurrency=self.pool.C,
            gateway=not proxies.is_list,
            free_groups=proxies.free_groups,
            free=proxies.free,
            site=f"site{site}",
        )
        return SessionPool(
            context.site,
            policy=self.policy_class(context),
            proxies=proxies,
            endpoint_health=self.health,
            headers=dict,
            limits=self.limits,
            clock=lambda: self.now,
            rng=self.rng,
        )

    def _sid(self, session: Session) -> int:
        if self.pool.n is not None and session.endpoint is not None:
            return self.sids[session.endpoint.key]
        sid = self.sids.get(session.id)
        if sid is None:
            sid = self.sids[session.id] = self.pool.new(self.rng)
        return sid

    def pick(self, now: float, site: Any, attempt: int) -> float:
        self.now = now
        pool = self.pools.get(site)
        if pool is None:
            pool = self.pools[site] = self._new_pool(site)
        got = pool.try_acquire(attempt=attempt)
        if not isinstance(got, Lease):
            return -got
        self.tag = got
        return self._sid(got.session)

    def report(self, now: float, sid: int, site: Any, kind: str, latency: float, tag: Any) -> None:
        self.now = now
        self.pools[site].report(tag, VERDICTS[kind], sent=now - latency, latency=latency)

    def restarted(self, now: float) -> None:
        """Save everything as JSON and start again from that; what was in flight is gone."""
        self.now = now
        for site, old in list(self.pools.items()):
            rows: list[Row] = json.loads(json.dumps(self._rows(old)))
            state = json.loads(json.dumps(site_state(old, 0.0)))
            self.pools[site] = pool = self._new_pool(site)
            restore(pool, rows, state, now=now, wall_offset=0.0)

    @staticmethod
    def _rows(pool: SessionPool) -> list[Row]:
        pool.roster.changed.update(pool.sessions.values())
        return take_changes(pool, 0.0)[0]
