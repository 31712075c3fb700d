"""Sessions that must be prepared before they serve a request: who waits for that, who is at it.

How a session is prepared (the user's ``session_filter_init``) is not known here: `SiteInits` decides
when an init may begin, and what follows from how it ended.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.session import State
from scrapy_session_filter.verdict import Kind, Strength, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from scrapy_session_filter.pool import SessionPool
    from scrapy_session_filter.session import Lease, Session

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until the next init after one that failed, doubled each time."""
INIT = "init"
"""Why a lease was given that is an init's, or its requests'."""
INIT_FAILED = "init-failed"
"""Reason of the verdict where the hook itself found that it failed."""
LOGGED_OUT = Verdict(Kind.BLOCKED, "logged-out", Strength.WEAK)
"""What a session pays that is logged out again although it was prepared anew for this very page."""


class SiteInits:
    """The inits of one site's sessions.

    ``run`` is called with the pool and a lease of the session to prepare, and sees to it that `end`
    or `drop` is called. At most ``at_once`` run at once. After ``attempts`` failures in a row (0: no
    bound) none begins any more; those that run count as if they had failed, so the bound is exact.
    """

    def __init__(
        self,
        pool: SessionPool,
        run: Callable[[SessionPool, Lease], None],
        *,
        at_once: int,
        attempts: int,
    ) -> None:
        self.waiting: dict[Session, None] = {}  #: could be prepared now, the first to come first
        self.running: set[Session] = set()
        self.failed = 0  #: inits in a row
        self._pool = pool
        self._run = run
        self._at_once = 1 if pool.policy.one_by_one else at_once
        self._attempts = attempts
        self._rounds = 0  # failures in a row, those of inits that ran side by side counted once
        self._failed_at = -math.inf
        self._not_before = -math.inf
        self._began = False  # one for the request that asked last

    @property
    def exhausted(self) -> bool:
        """Whether as many have failed in a row as may."""
        return 0 < self._attempts <= self.failed

    # -- beginning -------------------------------------------------------------------------------

    def offer(self, session: Session) -> bool:
        """Note that a session could be prepared now; return whether that is news."""
        if session in self.running or session in self.waiting:
            return False
        self.waiting[session] = None
        return True

    def withdraw(self, session: Session) -> None:
        """Note that it could not, for now or for good."""
        self.waiting.pop(session, None)

    def may_begin(self, now: float) -> bool:
        """Return whether another session may be prepared now."""
        running = len(self.running)
        return (
            running < self._at_once
            and now >= self._not_before
            and (not self._attempts or self.failed + running < self._attempts)
            and not self._pool.waiters.closed
        )

    def may_begin_more(self, now: float, asking: int = 1) -> bool:
        """Return whether another may begin beside those that run, for ``asking`` requests more.

        One for each request that is out or waits and has no session of its own, at the least one: a
        request that asks again and again has one session prepared, not many.
        """
        pool, running = self._pool, len(self.running)
        wanted = pool.in_flight - running + pool.waiters.count + asking - pool.roster.ready
        return running < max(1, wanted) and self.may_begin(now)

    def asked(self, now: float, avoid: Collection[str], *, can_create: bool) -> bool:
        """Have one that waits for it prepared, as a request asks for a session that is not pinned.

        ``avoid`` holds the ids of sessions it must not have. Return whether the policy may have a new
        session, where ``can_create`` says whether there may be one at all.
        """
        roster = self._pool.roster
        self._began = False
        enough = self._pool.policy.one_by_one and roster.ready and not avoid
        more = self.may_begin_more(now)
        if more and not enough and self.waiting:
            self.begin(next(iter(self.waiting)), now)
        return roster.has_unused or (can_create and more and not self._began)

    def has_more_to_do(self, now: float) -> bool:
        """Return whether one began for the last request, and one more may for the next."""
        return self._began and self.may_begin_more(now, asking=2)

    def begin(self, session: Session, now: float, tag: Any = None) -> None:
        """Have a session prepared, if one may be now.

        ``tag`` is the policy's record where it asked for a new one.
        """
        if session not in self.waiting or not self.may_begin(now):
            return
        del self.waiting[session]
        self.running.add(session)
        self._began = True
        self._run(self._pool, self._pool.lease_for_init(session, now, tag))

    # -- ending ----------------------------------------------------------------------------------

    def end(self, lease: Lease, verdict: Verdict | None, now: float, *, dry_run: bool) -> None:
        """End an init: it went well, or ``verdict`` is what the session pays for.

        A session that is neither rested nor retired for that and never worked is retired; one that
        has worked rests until its next init. A second end of the same lease does nothing.
        """
        if lease.ended:
            return
        pool, session = self._pool, lease.session
        self.running.discard(session)
        if verdict is None or dry_run:
            session.inited = now
            session.barred = False
        if verdict is None:
            self.failed = self._rounds = 0
            self._not_before = -math.inf
            pool.give_back(lease)
            return
        self._count_failure(lease, verdict, now)
        pool.report(lease, verdict, sent=lease.acquired, latency=now - lease.acquired)
        if session.barred and session.state is State.LIVE:
            if session.proven:
                pool.roster.rest(session, self._pause, now)
            else:
                pool.roster.retire(session, "init", now)

    def drop(self, lease: Lease) -> None:
        """End an init that was broken off; its session stays as it is."""
        self.running.discard(lease.session)
        self._pool.give_back(lease)

    def _count_failure(self, lease: Lease, verdict: Verdict, now: float) -> None:
        """Let the next begin at once where another proxy may do better, else after a pause."""
        self.failed += 1
        if lease.acquired >= self._failed_at:
            self._rounds += 1
        self._failed_at = now
        blocked = verdict.kind is Kind.BLOCKED and verdict.reason != INIT_FAILED
        if not blocked and verdict.kind is not Kind.PROXY_ERROR:
            self._not_before = now + self._pause

    @property
    def _pause(self) -> float:
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._rounds - 1, 20))
