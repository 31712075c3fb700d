"""Who is in a pool, and who can take a request now.

Membership, limits, rests and retirements; the policy is told of every change. Retirement is terminal:
a session leaves by one door (`Roster.retire`) and never comes back.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

from scrapy_session_filter.sampling import SampleSet
from scrapy_session_filter.session import LIVE, RESTING, RETIRED, Limits, Session, new_session_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from random import Random

    from scrapy_session_filter.inits import SiteInits
    from scrapy_session_filter.policies import Policy
    from scrapy_session_filter.proxies import EndpointHealth, SiteProxies
    from scrapy_session_filter.watcher import Watcher

LONGEST_REST = 86400.0
"""Seconds; the bound of any single rest, whatever a site or a policy asks for."""
HOP_PATIENCE = 30.0
"""Seconds a session that is used up is kept for the next hop of a redirect."""
SECOND_CHANCE = 1
"""Uses without a page after which a session still counts as one that is as good as new."""


class Roster:
    """The unretired sessions of one site, and their availability.

    ``proxies`` is None for sessions without a proxy. ``headers`` draws a header set for a new
    session. ``on_ready`` is called with the id of a session that becomes available, or with None where
    one may be prepared. With ``inits`` set, a session is prepared before it is available.
    """

    def __init__(
        self,
        site: str,
        *,
        policy: Policy,
        proxies: SiteProxies | None,
        endpoint_health: EndpointHealth,
        headers: Callable[[], Mapping[str, str]],
        limits: Limits,
        rng: Random,
        watcher: Watcher,
        on_ready: Callable[[str | None], None],
    ) -> None:
        self.sessions: OrderedDict[str, Session] = OrderedDict()  # in order of birth
        self.changed: set[Session] = set()  #: since they were last handed to the store
        self.removed: list[str] = []  #: ids retired since then
        self.resting = 0
        self.ready = 0  #: sessions that can take a request now
        self.due = -math.inf  #: when `tick` next has something to do; perhaps earlier
        self._site = site
        self._policy = policy
        self._proxies = proxies
        self._endpoint_health = endpoint_health
        self._headers = headers
        self._limits = limits
        self._rng = rng
        self._limited = bool(limits.concurrency or limits.delay or limits.max_uses)
        # without a limit: a number that is never reached, an int where ints are compared
        self._most_sessions = (limits.max_sessions if policy.bounded else 0) or sys.maxsize
        self._most_uses = limits.max_uses or sys.maxsize
        self._most_at_once = limits.concurrency or sys.maxsize
        self._most_age = limits.max_age or math.inf
        self._most_idle = limits.max_idle or math.inf
        self._watcher = watcher
        self._on_ready = on_ready
        self.inits: SiteInits | None = None
        self._unused: SampleSet[Session] = SampleSet()  # still waiting for their first answer
        self._timers: list[tuple[float, int, Session]] = []
        self._timer_count = 0

    # -- joining -----------------------------------------------------------------------------------

    def can_create(self, now: float) -> bool:
        """Return whether `create` may return a session now."""
        if self._unused.members:
            return True
        return self._has_room() and (self._proxies is None or self._proxies.has_free(now))

    @property
    def has_unused(self) -> bool:
        """Whether there is a session that could be used, and never had an answer."""
        return bool(self._unused.members)

    def create(
        self, now: float, *, group: str | None = None, avoid: Collection[str] = ()
    ) -> Session | None:
        """Return a session that never had a page: one still unused, else a new one.

        One that was tried again in vain only where none can be made: a pool would never fill.
        Its proxy is of ``group`` if it can, and not that of a session in ``avoid`` if there is
        another. None where proxies or room have run out.
        """
        free = self._has_room() and (self._proxies is None or self._proxies.has_free(now))
        if self._unused.members:
            unused = self._unused.draw(
                self._rng, lambda s: s.id in avoid or (free and s.uses > SECOND_CHANCE)
            )
            if unused is not None:
                return unused
        if not free:
            return None
        endpoint = None
        if self._proxies is not None:
            failed_on = {
                s.endpoint.key
                for s in map(self.sessions.get, avoid)
                if s is not None and s.endpoint is not None
            }
            endpoint = self._proxies.take(now, group=group, avoid=failed_on)
            if endpoint is None:
                return None
        session = Session(new_session_id(), self._site, endpoint, self._headers(), now, now)
        self.join(session, now)
        self._watcher.count("sessions/created")
        return session

    def join(self, session: Session, now: float) -> None:
        """Take in a session whose proxy is taken for it."""
        self.sessions[session.id] = session
        self.due = -math.inf
        session.barred = self.inits is not None and session.inited is None
        self.resting += session.state is RESTING
        self._policy.added(session)
        self.refresh(session, now)

    def has_other_than(self, avoid: Collection[str]) -> bool:
        """Return whether there is, or by itself may come, a session that is not in ``avoid``."""
        if self._has_room() and self._proxies is not None and self._proxies.next_free() < math.inf:
            return True
        return len(self.sessions) > len(avoid) or any(id_ not in avoid for id_ in self.sessions)

    def _has_room(self) -> bool:
        return len(self.sessions) < self._most_sessions

    # -- availability ------------------------------------------------------------------------------

    def is_spent(self, session: Session) -> bool:
        """Return whether the session has served all the requests it may."""
        return session.uses >= self._most_uses

    def expiry(self, session: Session, now: float) -> str:
        """Return why the session is to be retired, ``"age"`` or ``"idle"``; empty if it is not."""
        if now - session.born > self._most_age:
            return "age"
        return "idle" if now - session.used > self._most_idle and not session.in_flight else ""

    def is_usable(self, session: Session, now: float, *, barred: bool = False) -> bool:
        """Return whether the session can take a request now; ``barred``: but for its init."""
        return (
            session.state is LIVE
            and not session.leaving
            and session.barred is barred
            and session.free_at <= now
            and session.in_flight < self._most_at_once
            and session.uses < self._most_uses
            and (
                not self._endpoint_health.faults
                or session.endpoint is None
                or self._endpoint_health.wake(session.endpoint) <= now
            )
        )

    def take(self, session: Session, now: float, counts: bool) -> None:
        """Enter one request of a session; ``counts`` is false for the next hop of a redirect."""
        if counts:
            session.uses += 1
            if self._limits.delay:
                session.free_at = now + self._limits.delay
        session.used = now
        session.in_flight += 1
        self.changed.add(session)
        if self._limited or (not session.oks and session in self._unused):
            self.refresh(session, now)

    def take_back(self, session: Session) -> None:
        """Undo that a request counted as a use."""
        session.uses -= 1
        session.free_at = 0.0

    def expect(self, session: Session, now: float) -> None:
        """Keep a session that is used up for the next hop of its last request, for some seconds."""
        if self.is_spent(session) and session.state is LIVE and not session.in_flight:
            self._wake_at(now + HOP_PATIENCE, session)
        else:
            self.give_back(session, now)

    def give_back(self, session: Session, now: float) -> None:
        """Bring a session up to date after one of its requests ended."""
        if session.state is RETIRED:
            if not session.in_flight:
                self._watcher.gone(session)
        elif session.uses >= self._most_uses and not session.in_flight:
            self.retire(session, "uses", now)
        else:
            self.changed.add(session)
            if self._limited or not session.ready or not session.oks:
                self.refresh(session, now)

    def refresh(self, session: Session, now: float) -> None:
        """Find out whether a session can take a request now, and tell the policy if that changed."""
        usable = self.is_usable(session, now)
        if usable != session.ready:
            session.ready = usable
            self.ready += 1 if usable else -1
            if usable:
                self._policy.ready(session)
                self._on_ready(session.id)
            else:
                self._policy.busy(session)
        if not usable:
            when = session.wake if session.state is RESTING else session.free_at
            if session.endpoint is not None:
                when = max(when, self._endpoint_health.wake(session.endpoint))
            if when > now:
                self._wake_at(when, session)
        if self.inits is not None:
            self._offer_init(self.inits, session, now)
        if usable and not session.proven and not session.in_flight and not session.blocks:
            self._unused.add(session)
        else:
            self._unused.discard(session)

    def _offer_init(self, inits: SiteInits, session: Session, now: float) -> None:
        if not self.is_usable(session, now, barred=True):
            inits.withdraw(session)
        elif inits.offer(session):
            self._on_ready(None)  # whoever waits may have it prepared

    def bar(self, session: Session, now: float) -> None:
        """Let a session serve no request until it was prepared anew."""
        session.barred = True
        session.inited = None
        self.changed.add(session)
        self.refresh(session, now)

    def _wake_at(self, when: float, session: Session) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, session))
        self.due = min(self.due, when)

    def tick(self, now: float) -> None:
        """Let happen what is due: sessions wake up, become free again, or are too old.

        One that came from another process stands behind younger ones; it goes when it is next looked
        at (`expiry`).
        """
        while self._timers and self._timers[0][0] <= now:
            session = heapq.heappop(self._timers)[2]
            if session.state is RETIRED:
                continue
            if session.state is RESTING and session.wake <= now:
                session.state = LIVE
                self.resting -= 1
                self.changed.add(session)
            if self.is_spent(session) and not session.in_flight:
                self.retire(session, "uses", now)
            else:
                self.refresh(session, now)
        due = self._timers[0][0] if self._timers else math.inf
        while self.sessions:
            oldest = next(iter(self.sessions.values()))
            if now - oldest.born <= self._most_age:
                due = min(due, oldest.born + self._most_age)
                break
            self.retire(oldest, "age", now)
        self.due = due

    def next_due(self) -> float:
        """Return when a session or a proxy next becomes available by itself; may be infinity."""
        due = self._timers[0][0] if self._timers else math.inf
        if self._proxies is not None and self._has_room():
            due = min(due, self._proxies.next_free())
        return due

    # -- leaving -----------------------------------------------------------------------------------

    def rest(self, session: Session, seconds: float, now: float) -> None:
        """Take a session out for a time; a longer rest that it has already stays."""
        wake = now + min(seconds, LONGEST_REST)
        if session.state is RETIRED or session.wake >= wake:
            return
        if session.state is LIVE:
            session.state = RESTING
            self.resting += 1
            self._watcher.count("sessions/rested")
        session.wake = wake
        self.changed.add(session)
        self.refresh(session, now)
        self._watcher.urgent()

    def retire(self, session: Session, reason: str, now: float) -> None:
        """Take a session out for good; ``reason`` names a stat, after ``"blocked"`` its proxy rests."""
        if session.state is RETIRED:
            return
        self._take_out(session)
        self.removed.append(session.id)
        if self._proxies is not None and session.endpoint is not None:
            self._proxies.give_back(session.endpoint, now, blocked=reason == "blocked")
        self._watcher.count("sessions/retired")
        self._watcher.count(f"sessions/retired/{reason}")
        self._watcher.urgent()
        if not session.in_flight:
            self._watcher.gone(session)

    def hand_over(self, session: Session) -> None:
        """Take out a session that lives on in another process, which has its exit now."""
        self._take_out(session)
        if not session.in_flight:
            self._watcher.gone(session)

    def _take_out(self, session: Session) -> None:
        self.due = -math.inf
        self.resting -= session.state is RESTING
        session.state = RETIRED
        if session.ready:
            session.ready = False
            self.ready -= 1
            self._policy.busy(session)
        self._unused.discard(session)
        if self.inits is not None:
            self.inits.withdraw(session)
        self._policy.removed(session)
        del self.sessions[session.id]
        self.changed.discard(session)
