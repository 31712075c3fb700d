"""Which proxy a new session gets on one site: each is taken by a session, rests, or is free.

The health of a proxy as such, the same on every site, is kept apart (`EndpointHealth`).
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from scrapy_session_filter.proxies.endpoint_health import LONGEST_REST
from scrapy_session_filter.rows import is_time
from scrapy_session_filter.sampling import SampleSet

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from random import Random

    from scrapy_session_filter.proxies.endpoint import ProxyEndpoint
    from scrapy_session_filter.proxies.endpoint_health import EndpointHealth

FIRST_REST = 60.0
"""Seconds a proxy rests on a site after a block there; doubled each time up to `LONGEST_REST`.

scrapy-rotating-proxies starts at 300 s; one minute is a whole window of the rate limits in common use.
"""

_LOOKS = 100  # proxies whose country is looked at for one that is not refused


@dataclass(slots=True)
class SiteRest:
    """A proxy's rests on one site: how many so far, and when the present one ends."""

    rests: int
    wake: float


class SiteProxies:
    """The proxies of one site: at most one unretired session on each proxy of a list.

    Endpoints that hold ``{session}`` are gateways: they are never used up. With ``shared`` other
    processes use the list, too: only proxies that this one has claimed (`admit`) are taken.
    """

    def __init__(
        self,
        endpoints: Iterable[ProxyEndpoint],
        health: EndpointHealth,
        rng: Random,
        *,
        shared: bool = False,
    ) -> None:
        self._health = health
        self._rng = rng
        self._known: dict[str, ProxyEndpoint] = {}
        self._listed = 0
        self._gateways: list[ProxyEndpoint] = []
        self._free: SampleSet[ProxyEndpoint] = SampleSet()
        self._groups: dict[str, SampleSet[ProxyEndpoint]] | None = None
        self._group_names: SampleSet[str] = SampleSet()
        self._taken: set[str] = set()
        self._rests: dict[str, SiteRest] = {}
        self._waking: list[tuple[float, str]] = []
        self._claimed: set[str] | None = set() if shared else None
        self._changed: set[str] = set()
        self._refused: set[str] = set()  # countries that the site is kept from
        self.update(endpoints)

    @property
    def is_list(self) -> bool:
        """Whether proxies can run out: no gateway is among them."""
        return not self._gateways

    def update(self, endpoints: Iterable[ProxyEndpoint]) -> None:
        """Take over a new list."""
        fresh = {endpoint.key: endpoint for endpoint in endpoints}
        gone = self._known.keys() - fresh.keys()
        for key in gone:
            self._unfree(self._known[key])
        if self._claimed is not None:
            self._claimed -= gone
        for key, endpoint in fresh.items():
            old = self._known.get(key)
            if old is not None and old != endpoint:
                self._health.forget(key)  # a new password for the same proxy
            if old is endpoint or endpoint.per_session:
                continue
            if old is not None:
                self._unfree(old)
            rest = self._rests.get(key)
            if rest is not None:
                heapq.heappush(self._waking, (rest.wake, key))
            elif key not in self._taken:
                self._make_free(endpoint)
        self._known = fresh
        self._listed = sum(not endpoint.per_session for endpoint in fresh.values())
        self._gateways = [endpoint for endpoint in fresh.values() if endpoint.per_session]

    def listed(self, key: str) -> ProxyEndpoint | None:
        """Return the proxy that the list has now under a key."""
        return self._known.get(key)

    @property
    def claimed(self) -> Collection[str]:
        """The proxies of the list that this process has claimed; empty where nobody else uses it."""
        return self._claimed or ()

    @property
    def is_whole(self) -> bool:
        """Whether this process may use every proxy of the list."""
        return self._claimed is None or len(self._claimed) >= self._listed

    def unclaimed(self) -> list[str]:
        """Return the proxies of the list that this process has not claimed and therefore leaves."""
        if self._claimed is None:
            return []
        claimed = self._claimed
        return [k for k, e in self._known.items() if k not in claimed and not e.per_session]

    def unused(self) -> list[str]:
        """Return the claimed proxies without a session, resting ones included."""
        return [key for key in self.claimed if key not in self._taken]

    def admit(self, keys: Iterable[str], now: float) -> None:
        """Let proxies be taken, as far as they are in the list and do not rest."""
        if self._claimed is None:
            return
        for key in self._known.keys() & keys:  # of a gateway's 100,000 exits none is a proxy
            endpoint = self._known[key]
            if endpoint.per_session or key in self._claimed:
                continue
            self._claimed.add(key)
            rest = self._rests.get(key)
            if rest is not None and rest.wake > now:
                heapq.heappush(self._waking, (rest.wake, key))
            elif key not in self._taken:
                self._make_free(endpoint)

    def withdraw(self, keys: Iterable[str]) -> None:
        """Let proxies no longer be taken: they are another process's."""
        if self._claimed is None:
            return
        for key in keys:
            self._claimed.discard(key)
            self._taken.discard(key)
            if key in self._known:
                self._unfree(self._known[key])

    def take(
        self, now: float, *, group: str | None = None, avoid: Collection[str] = ()
    ) -> ProxyEndpoint | None:
        """Take a proxy for a new session, of ``group`` if it can, or None if none is free now.

        Proxies whose keys are in ``avoid``, and those of countries that the site refuses, are taken
        only where there is no other.
        """
        self._wake_due(now)
        source = self._free
        if group is not None and self._groups:
            source = self._groups.get(group) or self._free
        refuse = self._refusal(avoid) if avoid or self._refused else None
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

    def _refusal(self, avoid: Collection[str]) -> Callable[[ProxyEndpoint], bool]:
        looks = count()
        return lambda endpoint: (
            endpoint.key in avoid
            or (bool(self._refused) and next(looks) < _LOOKS and endpoint.country in self._refused)
        )

    def _gateway(self, now: float) -> ProxyEndpoint | None:
        awake = [gateway for gateway in self._gateways if self._health.wake(gateway) <= now]
        if self._refused:
            awake = [gate for gate in awake if gate.country not in self._refused] or awake
        return self._rng.choice(awake) if awake else None

    def refuse_country(self, endpoint: ProxyEndpoint) -> None:
        """Note that the site is kept from the proxy's country, if that is known: others come first."""
        if endpoint.country is not None:
            self._refused.add(endpoint.country)

    def has_free(self, now: float) -> bool:
        """Return whether `take` may find a proxy now."""
        if self._waking:
            self._wake_due(now)
        if self._free.members:
            return True
        health = self._health
        for gateway in self._gateways:  # noqa: SIM110 - at every pick: any() costs three times this
            if not health.faults or health.wake(gateway) <= now:
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
            self._changed.add(key)
        elif key in self._known:
            self._make_free(self._known[key])

    def worked(self, endpoint: ProxyEndpoint) -> None:
        """Note a success on this site: the next block rests the proxy for the first time again."""
        if self._refused:
            self._refused.discard(endpoint.country or "")
        if self._rests and self._rests.pop(endpoint.key, None) is not None:
            self._changed.add(endpoint.key)

    def rests(self, endpoint: ProxyEndpoint) -> int:
        """Return how often in a row blocks have made a proxy rest on this site."""
        rest = self._rests.get(endpoint.key)
        return 0 if rest is None else rest.rests

    def free(self) -> int:
        """Return how many proxies of the list have no session and do not rest."""
        return len(self._free)

    def free_groups(self) -> Sequence[str]:
        """Return the subnets that have a free proxy; kept up to date from the first call on."""
        if self._groups is None:
            self._groups = {}
            for endpoint in self._free:
                self._join_group(endpoint)
        return self._group_names.members

    def take_changes(self, wall_offset: float) -> dict[str, list[float] | None]:
        """Return, as plain JSON, the rests that changed since the last call.

        Key to [rests, wake]; None for a proxy that has worked again.
        """
        changes: dict[str, list[float] | None] = {}
        for key in self._changed:
            rest = self._rests.get(key)
            changes[key] = None if rest is None else [rest.rests, rest.wake + wall_offset]
        self._changed.clear()
        return changes

    def touch(self) -> None:
        """Let `take_changes` return all rests: they are to be saved again."""
        self._changed.update(self._rests)

    def load(self, rests: Mapping[str, object], *, now: float, wall_offset: float) -> None:
        """Take back what `take_changes` returned; entries that make no sense are ignored."""
        for key, value in rests.items():
            if not (isinstance(value, list) and len(value) == 2 and all(map(is_time, value))):
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
        if self._claimed is not None and endpoint.key not in self._claimed:
            return
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
