"""The odds of new sessions, and the subnet from which the next is best taken.

Sites ban subnets, and providers sell good and bad ones: for proxies of a list, Thompson sampling
(Thompson 1933) among a few random subnets, with the site's own odds as the prior.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy_session_filter.policies.adaptive.saved import odds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

FORGET = 0.99
"""Weight of older answers at each new one: about the last hundred new sessions count."""
LOOK = 4
"""Subnets looked at per new session."""
PRIOR = 2.0
"""How many answers the site's odds are worth against a subnet's own."""
RESTING, LONGEST = 4.0, 900.0
"""Seconds a subnet rests when a second of its working sessions is blocked, doubled up to this."""
TOGETHER = 20.0
"""Seconds within which two blocks in a subnet are taken for one ban."""


class Subnet:
    """One subnet's past: ``odds`` of its new sessions, the last block, and its rest."""

    __slots__ = ("blocked_at", "blocked_id", "odds", "rest", "until")

    def __init__(self) -> None:
        self.odds = [0.0, 0.0]
        self.blocked_at = -1e9
        self.blocked_id = ""
        self.rest = RESTING
        self.until = -1e9


class Fresh:
    """The odds of new sessions, by site and by subnet."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._odds = [1.0, 1.0]
        self.chance = 0.5  #: that a new session works
        self._subnets: dict[str, Subnet] = {}
        self.resting: dict[
            str, Subnet
        ] = {}  #: subnets of which working sessions were banned together

    def learn(self, group: str | None, ok: bool) -> None:
        """Take in the first answer of a new session."""
        self._odds[0] *= FORGET
        self._odds[1] *= FORGET
        self._odds[not ok] += 1.0
        self.chance = self._odds[0] / sum(self._odds)
        if group is not None:
            self._subnet(group).odds[not ok] += 1.0

    def choose(self, groups: Sequence[str]) -> str | None:
        """Return the subnet for the next new session; None: any."""
        if len(groups) < 2:
            return None
        rng, mean = self._rng, self.chance
        best, best_value = None, -1.0
        for _ in range(LOOK):
            group = groups[int(rng.random() * len(groups))]
            subnet = self._subnets.get(group)
            good, bad = subnet.odds if subnet is not None else (0.0, 0.0)
            value = rng.betavariate(PRIOR * mean + good + 0.01, PRIOR * (1.0 - mean) + bad + 0.01)
            if value > best_value:
                best, best_value = group, value
        return best

    def blocked(self, group: str, session_id: str, now: float) -> None:
        """Note a working session's block; a second one soon means that the subnet is banned."""
        subnet = self._subnet(group)
        together = now - subnet.blocked_at < TOGETHER and subnet.blocked_id != session_id
        if together or group in self.resting:
            subnet.until = now + subnet.rest
            subnet.rest = min(2.0 * subnet.rest, LONGEST)
            self.resting[group] = subnet
        subnet.blocked_at, subnet.blocked_id = now, session_id

    def passed(self, group: str) -> None:
        """Note that a session of a resting subnet works: the rest is over."""
        subnet = self.resting.pop(group, None)
        if subnet is not None:
            subnet.rest = RESTING
            subnet.blocked_at = -1e9

    def _subnet(self, group: str) -> Subnet:
        subnet = self._subnets.get(group)
        if subnet is None:
            subnet = self._subnets[group] = Subnet()
        return subnet

    def dump(self) -> dict[str, Any]:
        """Return the odds as plain JSON."""
        return {
            "odds": [round(value, 3) for value in self._odds],
            "subnets": {group: subnet.odds for group, subnet in self._subnets.items()},
        }

    def load(self, state: Any) -> None:
        """Take back a `dump`; what does not fit is ignored."""
        if not isinstance(state, dict):
            return
        own = odds(state.get("odds"))
        if own is not None and sum(own) > 0:
            self._odds = own
            self.chance = own[0] / sum(own)
        subnets = state.get("subnets")
        for group, value in subnets.items() if isinstance(subnets, dict) else ():
            saved = odds(value)
            if saved is not None:
                self._subnet(group).odds = saved
