"""What has been learnt of a site, in a paragraph: from a pool at work, or from what was saved of one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies import PolicyContext
from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.adaptive.saved import count
from scrapy_session_filter.policies.classic import ClassicPolicy
from scrapy_session_filter.pool import Limits, SessionPool
from scrapy_session_filter.proxies import EndpointHealth
from scrapy_session_filter.session import LIVE, RESTING
from scrapy_session_filter.snapshot import restore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scrapy_session_filter.session import Row


def explain(pool: SessionPool) -> str:
    """Say in a paragraph what is known of a pool's site."""
    now = pool.clock()
    sessions = pool.sessions.values()
    proven = sum(s.proven for s in sessions if s.state is LIVE)
    wakes = [s.wake - now for s in sessions if s.state is RESTING]
    told = f"{pool.site}: {proven} of {len(sessions)} sessions work, {len(wakes)} rest"
    if wakes:
        told += f" ({_seconds(min(wakes))} to {_seconds(max(wakes))} more)"
    told += f", {pool.in_flight} requests are in flight."
    return " ".join(filter(None, (told, pool.health.explain(now), pool.policy.explain(now))))


def explain_saved(
    site: str, rows: Iterable[Row], state: Mapping[str, Any] | None, *, now: float
) -> str:
    """Say in a paragraph what a store holds of a site.

    That is how many sessions work, how many rest and how long, the limit per session and how sure
    it is, when rests end well, and whether the site looked down.

    Pure: ``rows`` are the site's saved sessions, ``state`` what was learnt of it (None: nothing),
    ``now`` the wall clock in seconds. Rows and parts of the state that make no sense are left out.
    """
    state = state or {}
    free = count(state.get("free"))  # only of lists
    adaptive = state.get("policy") == AdaptivePolicy.__name__
    rng = random.Random(0)  # nothing is drawn from it
    context = PolicyContext(rng, gateway=free is None, free=lambda: free or 0)
    pool = SessionPool(
        site,
        policy=(AdaptivePolicy if adaptive else ClassicPolicy)(context),
        proxies=None,
        endpoint_health=EndpointHealth(),
        headers=dict,
        limits=Limits(),
        clock=lambda: now,
        rng=rng,
    )
    restore(pool, ({**row, "proxy": None} for row in rows), state, now=now, wall_offset=0.0)
    health = state.get("health")
    was_down = isinstance(health, dict) and health.get("down") is True
    return explain(pool) + (" The site looked down when this was saved." if was_down else "")


def _seconds(left: float) -> str:
    return f"{max(left, 0.0):.0f} s" if left < 600 else f"{left / 60:.0f} min"
