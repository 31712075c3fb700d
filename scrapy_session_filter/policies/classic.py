"""The article's algorithm: a working session with probability working / max, else a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scrapy_session_filter.policies.base import Ask, Decision, Policy, PolicyContext, Reaction
from scrapy_session_filter.sampling import SampleSet

if TYPE_CHECKING:
    from scrapy_session_filter.session import Lease, Outcome, Session

MAX_SESSIONS = 100
"""The article's ``maxSessions``: how many working sessions one aspires to have."""


class ClassicPolicy(Policy):
    """``pickSession`` of Apify's article "Filter out blocked proxies using sessions".

    A working session is one that has succeeded. With a chance of working / ``MAX_SESSIONS`` a
    uniformly random one of them is taken, else a new one is made; the first success makes it a
    working one, a block deletes it. ``MAX_SESSIONS`` is therefore no bound here. Where the proxies
    of a list have run out, a working session is taken after all.
    """

    bounded = False

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._max = context.max_sessions or MAX_SESSIONS
        self._working: set[Session] = set()
        self._ready: SampleSet[Session] = SampleSet()

    def choose(self, ask: Ask) -> Decision:
        """Pick as the article does."""
        chance = len(self._working) / self._max
        if chance > self.context.rng.random():
            session = self._draw(ask)
            if session is not None:
                return Decision.use(session, "working")
        if ask.can_create:
            return Decision.new()
        session = self._draw(ask)
        return Decision.hold(1.0) if session is None else Decision.use(session, "working")

    def _draw(self, ask: Ask) -> Session | None:
        avoid = ask.avoid
        refuse = (lambda session: session.id in avoid) if avoid else None
        return self._ready.draw(self.context.rng, refuse)

    def added(self, session: Session) -> None:
        """Count a restored session that has worked before."""
        if session.proven:
            self._working.add(session)

    def removed(self, session: Session) -> None:
        """Forget the session."""
        self._working.discard(session)

    def ready(self, session: Session) -> None:
        """Offer the session again, if it is a working one."""
        if session in self._working:
            self._ready.add(session)

    def busy(self, session: Session) -> None:
        """Withdraw the session for now."""
        self._ready.discard(session)

    def report(self, lease: Lease, outcome: Outcome) -> Reaction:
        """Store the session at its first success."""
        session = lease.session
        if session.proven and session not in self._working:
            self._working.add(session)
            if session.ready:
                self._ready.add(session)
        return super().report(lease, outcome)
