"""The health of proxies as such: what an endpoint's own faults cost it, on every site."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.rows import is_time

if TYPE_CHECKING:
    from scrapy_session_filter.proxies.endpoint import ProxyEndpoint

LONGEST_REST = 3600.0
"""Seconds; the bound of an endpoint's rests, everywhere or on one site."""
FIRST_FAULT_REST = 10.0
"""Seconds an endpoint rests everywhere after a fault of its own; doubled each time."""
PROVEN_STREAK = 3
"""Faults in a row that rest an endpoint which has worked before: single time-outs are ordinary."""
GATEWAY_STREAK = 8
"""The same for a gateway, where each session is another exit and one dead exit proves nothing."""


@dataclass(slots=True)
class Fault:
    """How an endpoint fares: faults in a row, rests so far, when the present one ends."""

    streak: int = 0
    rests: int = 0
    wake: float = -math.inf


class EndpointHealth:
    """The health of all endpoints on every site; remembers only those that ever failed."""

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}  #: of those that failed and did not work since
        self._proven: set[str] = set()
        self.changed: set[str] = set()

    def wake(self, endpoint: ProxyEndpoint) -> float:
        """Return when the endpoint may be used again; in the past if it may now."""
        fault = self.faults.get(endpoint.key)
        return -math.inf if fault is None else fault.wake

    def worked(self, endpoint: ProxyEndpoint) -> None:
        """Note that the endpoint carried a request to its site."""
        key = endpoint.key
        self._proven.add(key)
        if self.faults and self.faults.pop(key, None) is not None:
            self.changed.add(key)

    def failed(self, endpoint: ProxyEndpoint, now: float) -> bool:
        """Note a fault of the endpoint's own; return whether it rests now."""
        fault = self.faults.setdefault(endpoint.key, Fault())
        if now < fault.wake:
            return True  # sent before the rest began: the same burst
        fault.streak += 1
        if endpoint.per_session:
            needed = GATEWAY_STREAK
        else:
            needed = PROVEN_STREAK if endpoint.key in self._proven else 1
        if fault.streak < needed:
            return False
        fault.wake = now + min(FIRST_FAULT_REST * 2.0 ** min(fault.rests, 20), LONGEST_REST)
        fault.rests += 1
        self.changed.add(endpoint.key)
        return True

    def forget(self, key: str) -> None:
        """Drop the faults of an endpoint whose password has changed: they may have been its own."""
        if self.faults.pop(key, None) is not None:
            self.changed.add(key)

    def dump(self, key: str, wall_offset: float) -> dict[str, Any]:
        """Return an endpoint's state as plain JSON; empty when there is nothing to remember.

        Faults that led to no rest yet are not remembered: they may be long past when it is read.
        """
        fault = self.faults.get(key)
        if fault is None or not fault.rests:
            return {}
        return {"streak": fault.streak, "rests": fault.rests, "wake": fault.wake + wall_offset}

    def load(self, key: str, state: dict[str, Any], *, now: float, wall_offset: float) -> None:
        """Take back a saved state; one that makes no sense is ignored.

        Of the rest only so much is left as of a first one: what was wrong may be mended since then,
        a password above all. If it is not, the next rest is as long as it would have been.
        """
        streak, rests, wake = (state.get(name) for name in ("streak", "rests", "wake"))
        if type(streak) is not int or type(rests) is not int or not is_time(wake):
            return
        if streak < 0 or rests < 0:
            return
        self.faults[key] = Fault(
            streak, min(rests, 64), min(float(wake) - wall_offset, now + FIRST_FAULT_REST)
        )

    def touch(self) -> None:
        """Mark everything as changed: it is to be saved again."""
        self.changed.update(self.faults)

    def resting(self, now: float) -> int:
        """Return how many endpoints rest."""
        return sum(fault.wake > now for fault in self.faults.values())
