"""Four well-known ways to pick among the sessions of a pool that is filled first."""

from __future__ import annotations

import heapq
from abc import abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING

from scrapy_session_filter.policies.base import Ask, Decision, Policy, PolicyContext
from scrapy_session_filter.sampling import SampleSet

if TYPE_CHECKING:
    from scrapy_session_filter.session import Session

GATEWAY_POOL = 100
"""Sessions a gateway's pool is filled to where ``MAX_SESSIONS`` gives no bound."""


class FilledPoolPolicy(Policy):
    """Base of the simple policies: make sessions until the pool is full, then pick one of them.

    Full is ``MAX_SESSIONS``; without that bound, a session on each proxy of a list, or
    `GATEWAY_POOL` at a gateway.
    """

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._count = 0
        self._size = context.max_sessions or (GATEWAY_POOL if context.gateway else 0)

    def choose(self, ask: Ask) -> Decision:
        """Fill the pool, then pick; make another where no session of it can be used."""
        if ask.can_create and (not self._size or self._count < self._size):
            return Decision.new()
        session = self.pick(ask)
        if session is not None:
            return Decision.use(session, "pool")
        return Decision.new() if ask.can_create else Decision.hold(1.0)

    @abstractmethod
    def pick(self, ask: Ask) -> Session | None:
        """Return one of the ready sessions, or None."""

    def added(self, session: Session) -> None:
        """Count the session."""
        self._count += 1

    def removed(self, session: Session) -> None:
        """Discount the session."""
        self._count -= 1


class RandomPolicy(FilledPoolPolicy):
    """A uniformly random session of the pool."""

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._ready: SampleSet[Session] = SampleSet()

    def pick(self, ask: Ask) -> Session | None:
        """Draw one."""
        avoid = ask.avoid
        refuse = (lambda session: session.id in avoid) if avoid else None
        return self._ready.draw(self.context.rng, refuse)

    def ready(self, session: Session) -> None:
        """Take the session in."""
        self._ready.add(session)

    def busy(self, session: Session) -> None:
        """Take it out."""
        self._ready.discard(session)


class RoundRobinPolicy(FilledPoolPolicy):
    """Each session in turn: the one whose last turn is longest ago."""

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._turns: OrderedDict[Session, None] = OrderedDict()  # in order of their next turn

    def pick(self, ask: Ask) -> Session | None:
        """Take the first in turn and put it last."""
        session = next((s for s in self._turns if s.id not in ask.avoid), None)
        if session is not None:
            self._turns.move_to_end(session)
        return session

    def ready(self, session: Session) -> None:
        """Queue the session up."""
        self._turns.setdefault(session)

    def busy(self, session: Session) -> None:
        """Take it out of the queue."""
        self._turns.pop(session, None)


class LeastUsedPolicy(FilledPoolPolicy):
    """The session with the fewest uses so far."""

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._ready: set[Session] = set()
        self._heap: list[tuple[int, int, Session]] = []  # may hold old entries of a session
        self._order = 0

    def pick(self, ask: Ask) -> Session | None:
        """Take the top of the heap; what it holds out of date is put right on the way."""
        passed = []
        chosen = None
        while self._heap:
            entry = heapq.heappop(self._heap)
            uses, _, session = entry
            if session not in self._ready or session.memo is not entry:
                continue
            if uses != session.uses:
                self._push(session)
            elif session.id in ask.avoid:
                passed.append(entry)
            else:
                chosen = session
                passed.append(entry)
                break
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return chosen

    def _push(self, session: Session) -> None:
        if len(self._heap) > 2 * len(self._ready) + 64:  # more passed over than in use
            self._heap = [entry for entry in self._heap if entry[2].memo is entry]
            heapq.heapify(self._heap)
        self._order += 1
        session.memo = (session.uses, self._order, session)
        heapq.heappush(self._heap, session.memo)

    def ready(self, session: Session) -> None:
        """Offer the session."""
        if session not in self._ready:
            self._ready.add(session)
            self._push(session)

    def busy(self, session: Session) -> None:
        """Withdraw it; its entry in the heap is passed over when it comes up."""
        self._ready.discard(session)
        session.memo = None


class UntilBlockedPolicy(Policy):
    """One session until it is blocked or used to its limits, then the next.

    Sessions that were put aside (at their limits, or avoided by a page) come before new ones.
    """

    one_by_one = True

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._line: OrderedDict[Session, None] = OrderedDict()  # the first is the one in use

    def choose(self, ask: Ask) -> Decision:
        """Stay with the first in line."""
        session = next((s for s in self._line if s.id not in ask.avoid), None)
        if session is not None:
            return Decision.use(session, "current")
        return Decision.new() if ask.can_create else Decision.hold(1.0)

    def ready(self, session: Session) -> None:
        """Put the session at the end of the line."""
        self._line.setdefault(session)

    def busy(self, session: Session) -> None:
        """Take it out of the line."""
        self._line.pop(session, None)
