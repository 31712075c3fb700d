"""The odds of new sessions, and the subnet from which the next is best taken.

Sites ban subnets, and providers sell good and bad ones: for proxies of a list, Thompson sampling
(Thompson 1933) among a few random subnets, with the site's own odds as the prior.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.saved import odds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    Pause = Callable[[str | None, float], float]

FORGET = 0.99
"""Weight of older answers at each new one: about the last hundred new sessions count."""
NOWHERE = ""
"""Instead of a subnet: none of those looked at may be used now."""
LOOK = 4
"""Subnets looked at per new session."""
LEAST = 1e-3
"""Chance of a new session at least: that hundreds failed does not say that the next one must."""
COSTLIEST = 20.0
"""Most failed requests that replacing a session is taken to cost."""
PRIOR = 2.0
"""How many answers the site's odds are worth against a subnet's own."""


class Fresh:
    """The odds of new sessions, by site and by subnet."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.odds = [1.0, 1.0]  #: discounted counts
        self.expected = [0.0, 0.0]  #: what they are elsewhere, as so many answers
        self.chance = 0.5  #: that a new session works
        self.seen = 0.5  #: the same by what was seen here alone
        self.replacing = 2.0  #: requests that replacing a session is taken to cost
        self._subnets: dict[str, list[float]] = {}

    def learn(self, group: str | None, ok: bool) -> None:
        """Take in the first answer of a new session."""
        self.odds[0] *= FORGET
        self.odds[1] *= FORGET
        self.odds[not ok] += 1.0
        self._judge()
        if group is not None:
            self._subnets.setdefault(group, [0.0, 0.0])[not ok] += 1.0

    def expect(self, odds: list[float]) -> None:
        """Take other sites' odds for likely, as if they were so many answers here."""
        self.expected = odds
        self._judge()

    def _judge(self) -> None:
        good, expected = self.odds[0], self.expected
        self.seen = max(LEAST, good / sum(self.odds))
        self.chance = max(LEAST, (good + expected[0]) / (sum(self.odds) + sum(expected)))
        self.replacing = min(1.0 / self.chance, COSTLIEST)

    def choose(self, groups: Sequence[str], now: float, pause: Pause | None = None) -> str | None:
        """Return the subnet for the next new session, None: any, or `NOWHERE`.

        ``pause`` says for how many seconds a subnet must not be used.
        """
        if not groups or (len(groups) == 1 and pause is None):
            return None
        rng, mean = self._rng, self.chance
        best, best_value = NOWHERE, -1.0
        for _ in range(LOOK):
            group = groups[int(rng.random() * len(groups))]
            if pause is not None and pause(group, now) > 0:
                continue
            good, bad = self._subnets.get(group, (0.0, 0.0))
            value = rng.betavariate(PRIOR * mean + good + 0.01, PRIOR * (1.0 - mean) + bad + 0.01)
            if value > best_value:
                best, best_value = group, value
        return best

    def dump(self) -> dict[str, Any]:
        """Return the odds as plain JSON."""
        return {
            "odds": [round(value, 3) for value in self.odds],
            "subnets": self._subnets,
        }

    def load(self, state: Any) -> None:
        """Take back a `dump`; what does not fit is ignored."""
        if not isinstance(state, dict):
            return
        own = odds(state.get("odds"))
        if own is not None and sum(own) > 0:
            self.odds[:] = own
            self._judge()
        subnets = state.get("subnets")
        for group, value in subnets.items() if isinstance(subnets, dict) else ():
            saved = odds(value)
            if saved is not None:
                self._subnets[group] = saved
