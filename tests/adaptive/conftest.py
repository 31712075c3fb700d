"""Sessions, leases and answers for tests of the adaptive policy, on a clock of our own."""

from __future__ import annotations

import random
from itertools import count

import pytest

from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.adaptive.record import Record
from scrapy_session_filter.policies.base import Ask, Decision, PolicyContext, Reaction
from scrapy_session_filter.session import Lease, Outcome, Session
from scrapy_session_filter.verdict import OK, Kind, Verdict

_ids = count()

BLOCKED = Verdict(Kind.BLOCKED, "status-403")
PROXY_ERROR = Verdict(Kind.PROXY_ERROR, "timeout")
SITE_ERROR = Verdict(Kind.SITE_ERROR, "status-500")


def throttled(seconds: float) -> Verdict:
    return Verdict(Kind.THROTTLED, "status-429", retry_after=seconds)


def new_session(*, ready: bool = True) -> Session:
    session = Session(f"{next(_ids):012d}", "site", None, {}, 0.0, 0.0)
    session.ready = ready
    session.memo = Record(session)
    return session


class Driver:
    """The least that a pool does for a policy: it makes sessions, leases them, and reports."""

    def __init__(self, policy: AdaptivePolicy, *, most: int = 10**9) -> None:
        self.policy = policy
        self.most = most
        self.sessions: list[Session] = []

    def choose(self, now: float, *, attempt: int = 0, avoid: tuple[str, ...] = ()) -> Decision:
        return self.policy.choose(Ask(now, attempt, avoid, len(self.sessions) < self.most))

    def lease(self, now: float, decision: Decision) -> Lease:
        session = decision.session
        if session is None:
            session = new_session()
            self.sessions.append(session)
            self.policy.added(session)
            self.policy.ready(session)
        session.in_flight += 1
        session.used = now
        lease = Lease("lease", session, now, 0, decision.why, decision.tag)
        self.policy.acquired(lease)
        return lease

    def report(self, lease: Lease, verdict: Verdict, now: float, *, down: bool = False) -> Reaction:
        session = lease.session
        session.in_flight -= 1
        stale = lease.acquired < session.blamed
        outcome = Outcome(verdict, now, lease.acquired, 0.5, stale=stale, site_down=down)
        reaction = self.policy.report(lease, outcome)
        if verdict is OK:
            session.oks += 1
        if not stale and reaction.rest and not down:
            session.blamed = now
            session.ready = False
            self.policy.busy(session)
        return reaction

    def wake(self, session: Session) -> None:
        session.ready = True
        self.policy.ready(session)

    def working(self, number: int, now: float = 0.0) -> list[Session]:
        """Let so many new sessions succeed once."""
        for _ in range(number):
            self.report(self.lease(now, Decision.new()), OK, now)
        return self.sessions[-number:]


@pytest.fixture
def rng() -> random.Random:
    return random.Random(7)


@pytest.fixture
def policy(rng: random.Random) -> AdaptivePolicy:
    return AdaptivePolicy(PolicyContext(rng=rng, concurrency=8))


@pytest.fixture
def driver(policy: AdaptivePolicy) -> Driver:
    return Driver(policy)
