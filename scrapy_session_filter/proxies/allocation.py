"""Which proxy a new session gets, and which proxies rest.

Two facts are kept apart: the health of a proxy as such, the same on every site (`EndpointHealth`), and
its standing on one site (`SiteProxies`): taken by a session, resting after a block, or free.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.sampling import SampleSet

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from random import Random
    from typing import TypeGuard

    from scrapy_session_filter.proxies.endpoint import ProxyEndpoint

FIRST_REST = 60.0
"""Seconds a proxy rests on a site after a block there; doubled each time up to `LONGEST_REST`.

scrapy-rotating-proxies starts at 300 s; one minute is a whole window of the rate limits in common use.
"""
LONGEST_REST = 3600.0
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
        self._faults: dict[str, Fault] = {}
        self._proven: set[str] = set()
        self.changed: set[str] = set()

    def wake(self, endpoint: ProxyEndpoint) -> float:
        """Return when the endpoint may be used again; in the past if it may now."""
        fault = self._faults.get(endpoint.key)
        return -math.inf if fault is None else fault.wake

    def worked(self, endpoint: ProxyEndpoint) -> None:
        """Note that the endpoint carried a request to its site."""
        self._proven.add(endpoint.key)
        if self._faults.pop(endpoint.key, None) is not None:
            self.changed.add(endpoint.key)

    def failed(self, endpoint: ProxyEndpoint, now: float) -> bool:
        """Note a fault of the endpoint's own; return whether it rests now."""
        fault = self._faults.setdefault(endpoint.key, Fault())
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

    def dump(self, key: str, wall_offset: float) -> dict[str, Any]:
        """Return an endpoint's state as plain JSON; empty when there is nothing to remember."""
        fault = self._faults.get(key)
        if fault is None:
            return {}
        return {"streak": fault.streak, "rests": fault.rests, "wake": fault.wake + wall_offset}

    def load(self, key: str, state: dict[str, Any], *, now: float, wall_offset: float) -> None:
        """Take back a saved state; one that makes no sense is ignored."""
        streak, rests, wake = (state.get(name) for name in ("streak", "rests", "wake"))
        if type(streak) is not int or type(rests) is not int or not _is_time(wake):
            return
        if streak < 0 or rests < 0:
            return
        self._faults[key] = Fault(
            streak, min(rests, 64), min(float(wake) - wall_offset, now + LONGEST_REST)
        )

    def resting(self, now: float) -> int:
        """Return how many endpoints rest."""
        return sum(fault.wake > now for fault in self._faults.values())


@dataclass(slots=True)
class SiteRest:
    """A proxy's rests on one site: how many so far, and when the present one ends."""

    rests: int
    wake: float


class SiteProxies:
    """The proxies of one site: at most one unretired session on each proxy of a list.

    Endpoints that hold ``{session}`` are gateways: they are never used up.
    """

    def __init__(
        self, endpoints: Iterable[ProxyEndpoint], health: EndpointHealth, rng: Random
    ) -> None:
        self._health = health
        self._rng = rng
        self._known: dict[str, ProxyEndpoint] = {}
        self._gateways: list[ProxyEndpoint] = []
        self._free: SampleSet[ProxyEndpoint] = SampleSet()
        self._groups: dict[str, SampleSet[ProxyEndpoint]] | None = None
        self._group_names: SampleSet[str] = SampleSet()
        self._taken: set[str] = set()
        self._rests: dict[str, SiteRest] = {}
        self._waking: list[tuple[float, str]] = []
        self.changed = False
        self.update(endpoints)

    @property
    def is_list(self) -> bool:
        """Whether proxies can run out: no gateway is among them."""
        return not self._gateways

    def update(self, endpoints: Iterable[ProxyEndpoint]) -> set[str]:
        """Take over a new list; return the keys of proxies that are no longer in it."""
        fresh = {endpoint.key: endpoint for endpoint in endpoints}
        gone = self._known.keys() - fresh.keys()
        for key in gone:
            self._unfree(self._known[key])
        for key, endpoint in fresh.items():
            old = self._known.get(key)
            if old is endpoint or endpoint.per_session:
                continue
            if old is not None:
                self._unfree(old)  # a new password for the same proxy
            rest = self._rests.get(key)
            if rest is not None:
                heapq.heappush(self._waking, (rest.wake, key))
            elif key not in self._taken:
                self._make_free(endpoint)
        self._known = fresh
        self._gateways = [endpoint for endpoint in fresh.values() if endpoint.per_session]
        return gone

    def take(
        self, now: float, *, group: str | None = None, avoid: Collection[str] = ()
    ) -> ProxyEndpoint | None:
        """Take a proxy for a new session, of ``group`` if it can, or None if none is free now.

        Proxies whose keys are in ``avoid`` are taken only where there is no other.
        """
        self._wake_due(now)
        source = self._free
        if group is not None and self._groups:
            source = self._groups.get(group) or self._free
        refuse = (lambda endpoint: endpoint.key in avoid) if avoid else None
        while len(source):
            endpoint = source.draw(self._rng, refuse) or source[0]
            wake = self._health.wake(endpoint)
            if wake <= now:
                self._unfree(endpoint)
                self._taken.add(endpoint.key)
                return endpoint
            self._unfree(endpoint)
            heapq.heappush(self._waking, (wake, endpoint.key))
            if not len(source):
                source = self._free
        return self._gateway(now)

    def _gateway(self, now: float) -> ProxyEndpoint | None:
        awake = [gateway for gateway in self._gateways if self._health.wake(gateway) <= now]
        return self._rng.choice(awake) if awake else None

    def has_free(self, now: float) -> bool:
        """Return whether `take` may find a proxy now."""
        self._wake_due(now)
        if len(self._free):
            return True
        for gateway in self._gateways:  # noqa: SIM110 - at every pick: any() costs three times this
            if self._health.wake(gateway) <= now:
                return True
        return False

    def next_free(self) -> float:
        """Return when the next resting proxy wakes; infinity if none rests."""
        times = [self._health.wake(gateway) for gateway in self._gateways]
        if self._waking:
            times.append(self._waking[0][0])
        return min(times, default=math.inf)

    def adopt(self, key: str) -> ProxyEndpoint | None:
        """Return the proxy of a restored session, now taken; None if it is gone or taken already."""
        endpoint = self._known.get(key)
        if endpoint is None or endpoint.per_session:
            return endpoint
        if key in self._taken:
            return None
        self._unfree(endpoint)
        self._taken.add(key)
        return endpoint

    def give_back(self, endpoint: ProxyEndpoint, now: float, *, blocked: bool) -> None:
        """Free the proxy of a retired session; after a block it rests first, longer each time."""
        key = endpoint.key
        if endpoint.per_session:
            return
        self._taken.discard(key)
        if blocked:
            rest = self._rests.setdefault(key, SiteRest(0, 0.0))
            seconds = min(FIRST_REST * 2.0 ** min(rest.rests, 20), LONGEST_REST)
            rest.rests += 1
            rest.wake = now + seconds * self._rng.uniform(0.75, 1.25)
            heapq.heappush(self._waking, (rest.wake, key))
            self.changed = True
        elif key in self._known:
            self._make_free(self._known[key])

    def worked(self, endpoint: ProxyEndpoint) -> None:
        """Note a success on this site: the next block rests the proxy for the first time again."""
        if self._rests and self._rests.pop(endpoint.key, None) is not None:
            self.changed = True

    def rests(self, endpoint: ProxyEndpoint) -> int:
        """Return how often in a row blocks have made a proxy rest on this site."""
        rest = self._rests.get(endpoint.key)
        return 0 if rest is None else rest.rests

    def free_groups(self) -> Sequence[str]:
        """Return the subnets that have a free proxy; kept up to date from the first call on."""
        if self._groups is None:
            self._groups = {}
            for endpoint in self._free:
                self._join_group(endpoint)
        return self._group_names.members

    def dump(self, wall_offset: float) -> dict[str, list[float]]:
        """Return the rests on this site as plain JSON: key to [rests, wake]."""
        return {key: [rest.rests, rest.wake + wall_offset] for key, rest in self._rests.items()}

    def load(self, state: object, *, now: float, wall_offset: float) -> None:
        """Take back what `dump` returned; entries that make no sense are ignored."""
        if not isinstance(state, dict):
            return
        for key, value in state.items():
            if not (isinstance(value, list) and len(value) == 2 and all(map(_is_time, value))):
                continue
            wake = min(float(value[1]) - wall_offset, now + LONGEST_REST * 1.25)
            self._rests[key] = SiteRest(max(0, min(int(value[0]), 64)), wake)
            endpoint = self._known.get(key)
            if endpoint is not None and wake > now and key not in self._taken:
                self._unfree(endpoint)
                heapq.heappush(self._waking, (wake, key))

    def _wake_due(self, now: float) -> None:
        while self._waking and self._waking[0][0] <= now:
            _, key = heapq.heappop(self._waking)
            endpoint = self._known.get(key)
            rest = self._rests.get(key)
            if endpoint is None or key in self._taken or (rest is not None and rest.wake > now):
                continue
            self._make_free(endpoint)

    def _make_free(self, endpoint: ProxyEndpoint) -> None:
        self._free.add(endpoint)
        if self._groups is not None:
            self._join_group(endpoint)

    def _join_group(self, endpoint: ProxyEndpoint) -> None:
        if endpoint.group is not None and self._groups is not None:
            self._groups.setdefault(endpoint.group, SampleSet()).add(endpoint)
            self._group_names.add(endpoint.group)

    def _unfree(self, endpoint: ProxyEndpoint) -> None:
        self._free.discard(endpoint)
        if self._groups is not None and endpoint.group is not None:
            members = self._groups.get(endpoint.group)
            if members is not None:
                members.discard(endpoint)
                if not len(members):
                    del self._groups[endpoint.group]
                    self._group_names.discard(endpoint.group)


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
