"""A pool on a clock that tests turn by hand."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from scrapy_session_filter.policies import PolicyContext
from scrapy_session_filter.policies.classic import ClassicPolicy
from scrapy_session_filter.pool import Limits, SessionPool, Watcher
from scrapy_session_filter.proxies import EndpointHealth, SiteProxies, parse_proxy
from scrapy_session_filter.session import Lease
from scrapy_session_filter.verdict import OK, Kind, Strength, Verdict

if TYPE_CHECKING:
    from scrapy_session_filter.policies import Policy
    from scrapy_session_filter.proxies import ProxyEndpoint

BLOCKED = Verdict(Kind.BLOCKED, "status-403", Strength.WEAK)
THROTTLED = Verdict(Kind.THROTTLED, "status-429", retry_after=40.0)
PROXY_ERROR = Verdict(Kind.PROXY_ERROR, "refused")
SITE_ERROR = Verdict(Kind.SITE_ERROR, "status-503")
LOCAL = Verdict(Kind.SITE_ERROR, "local-too-many-open-files")


def proxies(count: int) -> list[ProxyEndpoint]:
    """Return a list of so many proxies, 250 in each /24."""
    return [
        parse_proxy(f"http://10.0.{n // 250}.{n % 250 + 1}:8000", setting="TEST")
        for n in range(count)
    ]


GATEWAY = parse_proxy("http://user-{session}:secret@gateway.example:8000", setting="TEST")


class Bench:
    """A pool, its clock, and what it told its watcher."""

    def __init__(
        self,
        policy: type[Policy] = ClassicPolicy,
        endpoints: list[ProxyEndpoint] | None = None,
        *,
        max_errors: int = 1,
        seed: int = 1,
        dry_run: bool = False,
        **limits: Any,
    ) -> None:
        self.now = 1000.0
        self.counts: Counter[str] = Counter()
        self.gone: list[str] = []
        self.urgent = 0
        self.rng = random.Random(seed)
        self.health = EndpointHealth()
        self.proxies = SiteProxies(endpoints or [GATEWAY], self.health, self.rng)
        context = PolicyContext(
            self.rng,
            max_sessions=limits.get("max_sessions", 0),
            max_errors=max_errors,
            gateway=not self.proxies.is_list,
            free_groups=self.proxies.free_groups,
            free=self.proxies.free,
        )
        self.pool = SessionPool(
            "shop.example",
            policy=policy(context),
            proxies=self.proxies,
            endpoint_health=self.health,
            headers=lambda: {"User-Agent": "Test"},
            limits=Limits(**limits),
            clock=lambda: self.now,
            rng=self.rng,
            watcher=Watcher(
                count=lambda name: self.counts.update([name]),
                urgent=self._on_urgent,
                gone=lambda session: self.gone.append(session.id),
            ),
            dry_run=dry_run,
        )

    def _on_urgent(self) -> None:
        self.urgent += 1

    def lease(self, **ask: Any) -> Lease:
        """Acquire a lease that must be there."""
        got = self.pool.try_acquire(**ask)
        assert isinstance(got, Lease), f"no lease for {got} s"
        return got

    def wait(self, **ask: Any) -> float:
        """Ask for a lease that must not be there; return the seconds to wait."""
        got = self.pool.try_acquire(**ask)
        assert isinstance(got, float), "a lease where there should be none"
        return got

    def report(self, lease: Lease, verdict: Verdict = OK, *, latency: float = 1.0) -> None:
        """Report an answer to a request that was sent when it was leased."""
        self.pool.report(lease, verdict, sent=lease.acquired, latency=latency)

    def fetch(self, verdict: Verdict = OK, **ask: Any) -> Lease:
        """Acquire, let a second pass, report."""
        lease = self.lease(**ask)
        self.now += 1.0
        self.report(lease, verdict)
        return lease


@pytest.fixture
def bench() -> type[Bench]:
    """Make pools: ``bench(policy, endpoints, **limits)``."""
    return Bench
