"""The sessions of one site: leases are acquired here and reported here.

The pool keeps what must hold whatever policy is in charge: limits are exact, a retired session is never
leased again, a burst of answers to one session's requests counts once, and a site that is down costs
nobody a session. The policy decides the rest. Nothing here does I/O or reads a clock of its own.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.chances import LAPSED, SHORTEST_WAIT, Chances
from scrapy_session_filter.exceptions import SessionFilterSessionGone
from scrapy_session_filter.ledger import Ledger
from scrapy_session_filter.policies import KEEP, Ask, Decision
from scrapy_session_filter.roster import HOP_PATIENCE, Roster
from scrapy_session_filter.session import LIVE, RESTING, RETIRED, Lease, Limits, Outcome, Session
from scrapy_session_filter.tenure import Tenure
from scrapy_session_filter.verdict import KIND_OK, About, Kind, Strength
from scrapy_session_filter.waiters import Waiters
from scrapy_session_filter.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from random import Random

    from scrapy_session_filter.inits import SiteInits
    from scrapy_session_filter.policies import Policy, Reaction
    from scrapy_session_filter.proxies import EndpointHealth, ProxyEndpoint, SiteProxies
    from scrapy_session_filter.verdict import Verdict

__all__ = ["Limits", "SessionPool", "Watcher"]


class SessionPool:
    """All sessions of one site: acquire a lease, then report or abandon it.

    ``clock`` must never run backwards. ``proxies`` is None for sessions without a proxy; ``headers``
    draws a header set for a new session. ``dry_run``: verdicts are counted but cost nothing. No lease
    is given once ``tenure`` has run out.
    ``inits`` makes the `SiteInits` that have sessions prepared before their first request.
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
        clock: Callable[[], float],
        rng: Random,
        watcher: Watcher | None = None,
        dry_run: bool = False,
        tenure: Tenure | None = None,
        inits: Callable[[SessionPool], SiteInits] | None = None,
    ) -> None:
        self.site = site
        self.policy = policy
        self.proxies = proxies
        self.ledger = Ledger(policy, proxies, endpoint_health)
        self.health = self.ledger.health
        self.in_flight = 0
        self.handed_out = -math.inf  #: when the queue last let a request go to wait for a session
        self.given_up = False  #: no page in too long a time, although asked for
        self.away: dict[str, float] = {}  #: pinned sessions of other processes, until the next look
        self.clock = clock
        self._watcher = watcher or Watcher()
        self._dry_run = dry_run
        self._tenure = tenure or Tenure()
        self.waiters = Waiters(on_ready=partial(self._watcher.ready, site))
        self.roster = Roster(
            site,
            policy=policy,
            proxies=proxies,
            endpoint_health=endpoint_health,
            headers=headers,
            limits=limits,
            rng=rng,
            watcher=self._watcher,
            on_ready=self.waiters.came,
        )
        self.inits = self.roster.inits = None if inits is None else inits(self)
        # Queued requests may carry the id of a lease from another run, or from before a reload.
        self._pool_id, self._lease_numbers = token_hex(4), count(1)
        self._hops = 0  # paused leases that are expected back
        self._hops_until = -math.inf
        self._chances = Chances(self.roster, self.health, self.waiters, self._tenure)

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The unretired sessions by id, oldest first."""
        return self.roster.sessions

    # -- acquire ---------------------------------------------------------------------------------

    def try_acquire(  # noqa: C901, PLR0912 - each step is short, and a call of its own costs every page
        self, *, attempt: int = 0, avoid: Collection[str] = ()
    ) -> Lease | float:
        """Return a lease, or the seconds after which asking again may help.

        ``avoid`` holds the ids of sessions the page has failed on: none of them is leased, nor, where
        it can be helped, a proxy of theirs.
        """
        now = self.clock()
        self.ledger.ask(now, self.in_flight)
        if now >= self._tenure.until:
            return self._chances.lapsed(now)
        roster = self.roster
        if now >= roster.due:
            roster.tick(now)
        pause = self.health.gate(now) if self.health.down else 0.0
        if pause > 0:
            return pause
        can_create = roster.can_create(now)
        if self.inits is not None:
            can_create = self.inits.asked(now, avoid, can_create=can_create)
        refused: set[str] = set()
        while True:
            decision = self.policy.choose(Ask(now, attempt, avoid, can_create))
            if decision.wait is not None:
                return self._chances.wait(now, decision.wait, for_all=not avoid)
            session = decision.session
            if session is None:
                if not can_create:  # a policy that insists
                    break
                session = roster.create(now, group=decision.group, avoid=avoid)
                if session is None:
                    can_create = False
                    continue
                if self.inits is not None and session.barred:
                    self.inits.begin(session, now, decision.tag)
                    can_create = roster.has_unused
                    continue
            elif session.id in refused:  # as above
                break
            elif reason := "age" if decision.retire else roster.expiry(session, now):
                refused.add(session.id)
                roster.retire(session, reason, now)
                can_create = roster.can_create(now)
                continue
            elif session.id in avoid or not roster.is_usable(session, now):
                refused.add(session.id)  # its proxy may rest since it was offered
                roster.refresh(session, now)
                continue
            return self._lease(session, now, attempt, decision)
        return self._chances.wait(now, 1.0, for_all=not avoid)

    def is_hopeless(self, avoid: Collection[str]) -> bool:
        """Return whether every session that there is or may be for now is one of ``avoid``."""
        now = self.clock()
        return not self.roster.can_create(now) and not self.roster.has_other_than(avoid)

    def acquire_pinned(self, session_id: str, *, attempt: int = 0) -> Lease | float:
        """Return a lease of this very session, or the seconds after which it may be had.

        Raises `SessionFilterSessionGone` where it is retired or unknown.
        """
        now = self.clock()
        if now >= self._tenure.until:
            self.ledger.ask(now, self.in_flight)
            return self._chances.lapsed(now)
        self.roster.tick(now)
        session = self.roster.sessions.get(session_id)
        if session is not None and (reason := self.roster.expiry(session, now)):
            self.roster.retire(session, reason, now)
            session = None
        if session is None or self.roster.is_spent(session):
            raise SessionFilterSessionGone(session_id, self.site)
        if self.roster.is_usable(session, now):
            return self._lease(session, now, attempt, Decision(why="pinned"))
        if session.state is RESTING:
            return max(SHORTEST_WAIT, session.wake - now)
        if session.barred and self.inits is not None:
            self.inits.begin(session, now)
        return self._chances.wait(now, 1.0, for_all=False)

    def resume(self, session_id: str) -> Lease | None:
        """Return a lease that goes on with a use that was counted already: the next hop of a redirect.

        None where the session is gone, rests or may be another process's: the chain has to start again.
        """
        self._hops = max(0, self._hops - 1)
        session = self.roster.sessions.get(session_id)
        now = self.clock()
        if session is None or session.state is not LIVE or now >= self._tenure.until:
            return None
        return self._lease(session, now, 0, Decision(why="redirect"), counts=False)

    async def acquire(
        self,
        *,
        timeout: float,
        attempt: int = 0,
        avoid: Collection[str] = (),
        pin: str | None = None,
    ) -> Lease | None:
        """Wait up to ``timeout`` seconds for a lease; None where there was none, or nobody is to wait.

        Raises `SessionFilterSessionGone` where ``pin`` names a session that is gone.
        """
        deadline = self.clock() + timeout
        waited = False
        while True:
            got = (
                self.acquire_pinned(pin, attempt=attempt)
                if pin is not None
                else self.try_acquire(attempt=attempt, avoid=avoid)
            )
            if isinstance(got, Lease):
                if waited:
                    self.waiters.wake_one()  # there may be one for the next, too
                return got
            left = deadline - self.clock()
            if left <= 0 or self.waiters.closed:
                return None
            waited = True
            await self.waiters.sleep(min(got, left), pin=pin, avoid=avoid)

    @property
    def is_used(self) -> bool:
        """Whether a request has a session of this pool, waits for one, or is between two hops."""
        hops = self._hops and self.clock() < self._hops_until
        return bool(self.in_flight or self.waiters.count or hops)

    @property
    def lapsed(self) -> bool:
        """Whether what was claimed in the store may be another process's by now."""
        return self.clock() >= self._tenure.until

    def next_chance(self) -> float:
        """Return the seconds until a lease may be had, 0.0 if one may be had now.

        An estimate for the request queue.
        """
        now = self.clock()
        self.ledger.ask(now, self.in_flight)
        return math.inf if self.given_up else self._chances.next(now)

    def pin_chance(self, session_id: str) -> float:
        """Return the seconds until `acquire_pinned` may have an answer, 0.0 if it has one now."""
        now = self.clock()
        if now >= self._tenure.until:
            self.ledger.ask(now, self.in_flight)
            return LAPSED
        away = self.away.get(session_id, now) - now
        if away > 0 and session_id not in self.sessions:
            return away
        return self._chances.of(session_id, now)

    def _lease(
        self, session: Session, now: float, attempt: int, decision: Decision, counts: bool = True
    ) -> Lease:
        id_ = f"{session.id}.{self._pool_id}{next(self._lease_numbers)}"
        lease = Lease(id_, session, now, attempt, decision.why, decision.tag, counts=counts)
        self.in_flight += 1
        self.roster.take(session, now, counts)
        if self.health.down:
            self.health.probe(now)
        self.policy.acquired(lease)
        self._watcher.count(f"picks/{decision.why}")
        return lease

    def lease_for_init(self, session: Session, now: float, tag: Any = None) -> Lease:
        """Return a lease under which a session is prepared; it counts as no use."""
        return self._lease(session, now, 0, Decision(why="init", tag=tag), counts=False)

    # -- report ----------------------------------------------------------------------------------

    def report(self, lease: Lease, verdict: Verdict, *, sent: float, latency: float) -> None:
        """End a lease with what its answer says; a second report of the same lease does nothing.

        ``sent`` is when the request left, on the pool's clock; ``latency`` is in seconds.
        """
        if not self._end(lease):
            return
        now = self.clock()
        session = lease.session
        ok = verdict.kind is KIND_OK
        if not ok and (verdict.is_local or self._dry_run):
            self.policy.abandoned(lease)  # DRY_RUN: what is known of blocks holds requests back
        else:
            outcome = self.ledger.outcome(lease, verdict, now, sent, latency)
            self.ledger.enter(session, outcome)
            reaction = self.policy.report(lease, outcome)
            costs = not ok or reaction is not KEEP
            if costs and not (outcome.stale or outcome.site_down or self._dry_run):
                self._apply(session, reaction, verdict, now)
        self._settle(session, now)

    def abandon(self, lease: Lease) -> None:
        """End a lease without an answer that counts; a second time does nothing."""
        if self._end(lease):
            self.policy.abandoned(lease)
            self._settle(lease.session, self.clock())

    def give_back(self, lease: Lease) -> None:
        """End a lease of which no use was made: the page came from elsewhere, or waits.

        A second time does nothing.
        """
        if self._end(lease):
            self.policy.abandoned(lease)
            if lease.counts:
                self.roster.take_back(lease.session)
            self._settle(lease.session, self.clock())

    def pause(self, lease: Lease) -> None:
        """End a lease whose use goes on with the next hop of a redirect, for `resume`."""
        if self._end(lease):
            now = self.clock()
            if now >= self._hops_until:
                self._hops = 0  # those never came
            self._hops += 1
            self._hops_until = now + HOP_PATIENCE
            self.policy.paused(lease)
            self.roster.expect(lease.session, now)
            self.waiters.came()

    def amend(self, session_id: str, verdict: Verdict) -> bool:
        """Turn one earlier success of a session into ``verdict``; False where it is retired."""
        session = self.roster.sessions.get(session_id)
        if session is None:
            return False
        if self._dry_run:
            return True
        now = self.clock()
        outcome = Outcome(verdict, now, sent=now, latency=0.0)
        session.oks = max(0, session.oks - 1)
        self.ledger.enter(session, outcome)
        self._apply(session, self.policy.amended(session, outcome), verdict, now)
        self._settle(session, now)
        return True

    def end_init(self, lease: Lease, verdict: Verdict | None) -> None:
        """End a session's init; ``verdict`` is what it pays for, None where it went well."""
        if self.inits is not None:
            self.inits.end(lease, verdict, self.clock(), dry_run=self._dry_run)

    def log_out(self, lease: Lease) -> None:
        """End a lease whose answer shows that its session is logged out: it is prepared anew.

        Unless that has been done, or was begun, since the request went out.
        """
        session = lease.session
        self.abandon(lease)
        still = session.inited is not None and lease.acquired >= session.inited
        if still and session.state is not RETIRED and not self._dry_run:
            self.roster.bar(session, self.clock())

    def _end(self, lease: Lease) -> bool:
        if lease.ended:
            return False
        lease.ended = True
        lease.session.in_flight -= 1
        self.in_flight -= 1
        return True

    def _settle(self, session: Session, now: float) -> None:
        self.roster.give_back(session, now)
        # whoever waits may look again: the policy may know more now
        self.waiters.came(session.id if session.ready else None)

    def _apply(self, session: Session, reaction: Reaction, verdict: Verdict, now: float) -> None:
        if session.state is RETIRED:
            return
        if verdict.kind is not Kind.OK:
            session.blamed = now
        proven = verdict.kind is Kind.BLOCKED and verdict.strength is Strength.STRONG
        if proven and verdict.about is About.USER_AGENT:
            # no rest mends it, but the address is fine: the next identity may have it at once
            self.roster.retire(session, "user-agent", now)
        elif reaction.retire:
            reason = "proxy" if verdict.kind is Kind.PROXY_ERROR else "blocked"
            self.roster.retire(session, reason, now)
        elif reaction.rest > 0:
            self.roster.rest(session, reaction.rest, now)

    # -- from outside ----------------------------------------------------------------------------

    def update_proxies(self, endpoints: Iterable[ProxyEndpoint]) -> None:
        """Take over a new list of proxies; sessions on those that are gone are retired.

        The others have the proxy from now on as the list has it: with its new password.
        """
        if self.proxies is None:
            return
        self.proxies.update(endpoints)
        now = self.clock()
        for session in list(self.sessions.values()):
            if (old := session.endpoint) is None:
                continue
            listed = self.proxies.listed(old.key)
            if listed is None:
                self.roster.retire(session, "proxy-gone", now)
                continue
            session.endpoint = listed
            if listed != old:
                self.roster.refresh(session, now)
        self.waiters.came()
