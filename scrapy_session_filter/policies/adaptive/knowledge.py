"""All that is known of one site, in its parts: saved, loaded and explained as one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.budget import Budget
from scrapy_session_filter.policies.adaptive.drought import Drought
from scrapy_session_filter.policies.adaptive.fresh import Fresh
from scrapy_session_filter.policies.adaptive.ladder import Ladder
from scrapy_session_filter.policies.adaptive.lifetime import Lifetime
from scrapy_session_filter.policies.adaptive.limit import Limit
from scrapy_session_filter.policies.adaptive.saved import number
from scrapy_session_filter.policies.adaptive.subnets import Subnets
from scrapy_session_filter.policies.adaptive.vendors import Vendor
from scrapy_session_filter.policies.adaptive.working import WorkingSet

if TYPE_CHECKING:
    from random import Random

    from scrapy_session_filter.policies.adaptive.record import Pick, Record
    from scrapy_session_filter.policies.adaptive.vendors import Lessons


class Knowledge:
    """One site's limit, rests, odds, budget and working sessions.

    ``lessons``: what ``site`` hears from, and tells, the others of its vendor.
    """

    def __init__(self, rng: Random, concurrency: int, lessons: Lessons, site: str) -> None:
        self.working = WorkingSet(rng, concurrency)
        self.ladder = Ladder()
        self.limit = Limit()
        self.lifetime = Lifetime()
        self.fresh = Fresh(rng)
        self.subnets = Subnets()
        self.vendor = Vendor(lessons, site, self.fresh, self.ladder, self.limit)
        self.budget = Budget(concurrency)
        self.drought = Drought(concurrency)

    @property
    def pages_of_a_ban(self) -> float:
        """Return how many pages a session cannot fetch while it is banned."""
        return self.budget.outage * self.limit.cap / self.limit.window

    @property
    def pace(self) -> float:
        """Return how many pages a second a session fetches: what it may, or one after the other."""
        latency = self.working.latency
        return min(self.limit.cap / self.limit.window, 1.0 / latency if latency else math.inf)

    def landed(self, pick: Pick) -> None:
        """End what a request tried: there is room for another scout or trial."""
        self.subnets.landed(pick)
        if pick.scout:
            pick.scout = False
            self.limit.scouting -= 1
        elif pick.trial:
            self.limit.trials.running -= 1

    def put_back(self, record: Record) -> None:
        """Let a session that was blocked wait for its next probe again, if it is free for one."""
        if not record.working and record.session.ready and record.tried:
            self.ladder.add(record)

    def dump(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "limit": self.limit.dump(),
            "ladder": self.ladder.dump(),
            "budget": self.budget.dump(),
            "fresh": self.fresh.dump(),
            "lifetime": self.lifetime.dump(),
            "subnets": self.subnets.dump(),
            "vendor": self.vendor.dump(),
            "mean": round(self.working.mean, 4),
            "latency": round(self.working.latency, 4),
        }

    def load(self, state: dict[str, Any], *, gateway: bool) -> None:
        """Take back a `dump`; what does not fit is ignored.

        ``gateway``: whether sessions may get other exits. Those of a list never do.
        """
        self.limit.load(state.get("limit"))
        self.ladder.load(state.get("ladder"))
        self.budget.load(state.get("budget"))
        self.fresh.load(state.get("fresh"))
        self.subnets.load(state.get("subnets"))
        self.vendor.load(state.get("vendor"))
        self.ladder.newcomers = self.fresh.chance
        self.drought.expect(self.fresh.chance)
        mean = number(state.get("mean"), 0.0, 1.0)
        latency = number(state.get("latency"), 0.0, 1e6)
        if mean is not None:
            self.working.mean = mean
        if gateway:
            self.lifetime.load(state.get("lifetime"), self.budget.pages, self.fresh.chance)
        if latency is not None:
            self.working.latency = latency

    def explain(self, now: float) -> str:
        """Say in a paragraph what is known."""
        told = [
            (
                f"{len(self.working)} sessions take requests; {100 * self.working.mean:.0f} % "
                f"succeed, in {self.working.latency:.2f} s. A new session works with a chance of "
                f"{100 * self.fresh.chance:.0f} %."
            ),
            self.limit.explain(),
            self.lifetime.explain(),
            self.ladder.explain(),
            self.drought.explain(now) if not self.working.total else "",
            self.subnets.explain(now),
            self.vendor.explain(),
        ]
        return " ".join(filter(None, told))
