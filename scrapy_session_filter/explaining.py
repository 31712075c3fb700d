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
from scrapy_session_filter.snapshot import restore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scrapy_session_filter.session import Row


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
    return pool.explain() + (" The site looked down when this was saved." if was_down else "")
