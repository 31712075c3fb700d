"""What a policy is: it decides between this session, a new one and waiting, and learns.

A policy of your own is a subclass of `Policy` named in ``SESSION_FILTER_POLICY`` by its import path.
One is made for each site. The pool keeps the limits (rests, retirements, concurrency, delay, uses)
and tells the policy which sessions can take a request now; a policy never looks at a clock, a
setting or another site, so it runs in a simulator as it runs in a crawl.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.verdict import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from random import Random

    from scrapy_session_filter.session import Lease, Outcome, Session


@dataclass(slots=True, eq=False)
class Ask:
    """One request's wish for a session.

    ``attempt`` is 0 for a new page and 1.. for the retries that blocks have cost it. ``avoid`` holds
    the ids of sessions this page has failed on: they must not be chosen. ``can_create`` says whether
    a new session may be made now (a proxy is free and ``MAX_SESSIONS`` is not reached).
    """

    now: float
    attempt: int
    avoid: Collection[str]
    can_create: bool


@dataclass(slots=True)
class Decision:
    """Use ``session``; or, where it is None, make a new one; or wait ``wait`` seconds.

    Make it with `use`, `new`, `hold` or `drop`. ``why`` is a short slug that names a stat. ``group``
    asks for a new proxy of that subnet. ``tag`` travels with the lease and comes back in the report.
    ``retire``: do not use ``session``, it is too old; the policy is asked again at once.
    """

    session: Session | None = None
    wait: float | None = None
    why: str = ""
    group: str | None = None
    tag: Any = None
    retire: bool = False

    @classmethod
    def use(cls, session: Session, why: str, tag: Any = None) -> Decision:
        """Choose a session that is ready and not in ``Ask.avoid``."""
        return cls(session=session, why=why, tag=tag)

    @classmethod
    def new(cls, why: str = "new", group: str | None = None, tag: Any = None) -> Decision:
        """Choose to make a session; only where ``Ask.can_create`` is true."""
        return cls(why=why, group=group, tag=tag)

    @classmethod
    def drop(cls, session: Session) -> Decision:
        """Choose to retire a session that is too old, and to be asked again at once."""
        return cls(session=session, retire=True)

    @classmethod
    def hold(cls, seconds: float, why: str = "wait") -> Decision:
        """Choose nothing for now; ask again after ``seconds``, or earlier if something changes."""
        return cls(wait=seconds, why=why)


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a verdict costs the session: nothing, a rest of ``rest`` seconds, or its place."""

    rest: float = 0.0
    retire: bool = False


KEEP = Reaction()
RETIRE = Reaction(retire=True)

THROTTLED_REST = 5.0
"""Seconds a throttled session rests where the site does not say."""
ERROR_RUN = 3
"""Errors in a row after which a session that others outdo is at fault itself."""
ERROR_REST = 30.0
"""Seconds it rests then."""


def fault_cost(session: Session) -> Reaction:
    """Return what a proxy fault costs a session.

    The endpoint's own rest is kept apart, for all sites. Here: a session that never worked is worth
    nothing; one behind a gateway is another exit each time, so one that keeps failing goes as well;
    one on a proxy of a list waits for its proxy.
    """
    behind_gateway = session.endpoint is not None and session.endpoint.per_session
    if not session.proven or (behind_gateway and session.errors >= ERROR_RUN):
        return RETIRE
    return KEEP


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What a policy may know of its pool.

    ``max_sessions`` is 0 where there is no bound, ``concurrency`` the crawl's CONCURRENT_REQUESTS.
    ``gateway`` is true where new sessions never run out, because each is another exit.
    ``free_groups`` lists the subnets (``"192.0.2.0/24"``) that still have a proxy without a session
    on this site: empty at gateways, where every session is another exit. ``free`` returns how many
    such proxies a list has; those that rest do not count. ``site`` is the pool's key. ``common`` is
    the same dict for all sites of a crawl, for what a policy's sites tell each other: it outlives
    the pool of a site that is unloaded.
    """

    rng: Random
    max_sessions: int = 0
    max_errors: int = 1
    concurrency: int = 16
    gateway: bool = False
    free_groups: Callable[[], Sequence[str]] = tuple
    free: Callable[[], int] = int
    site: str = ""
    common: dict[str, Any] = field(default_factory=dict)


class Policy(ABC):
    """Base class of all policies; the hooks that do nothing here may be left as they are."""

    #: Whether ``MAX_SESSIONS`` bounds the pool; false where it means something else to the policy.
    bounded = True
    #: Whether it works with one session at a time: then others are not prepared beside it
    #: (``SESSION_FILTER_INIT``) while one is ready.
    one_by_one = False

    def __init__(self, context: PolicyContext) -> None:
        self.context = context

    @abstractmethod
    def choose(self, ask: Ask) -> Decision:
        """Decide for one request; called often, so keep it O(1) or O(log n)."""

    def added(self, session: Session) -> None:
        """Take in a session that joined the pool, new or restored (then ``learnt`` may be set)."""

    def removed(self, session: Session) -> None:
        """Forget a session that was retired; `busy` was called before if it was ready."""

    def ready(self, session: Session) -> None:
        """Note that the session can take a request now (it joined, woke up, or has room again)."""

    def busy(self, session: Session) -> None:
        """Note that it cannot for now (it rests, is used to its limit, or its proxy rests)."""

    def acquired(self, lease: Lease) -> None:
        """Note that the decision became a lease; ``lease.tag`` may still be set."""

    def report(self, lease: Lease, outcome: Outcome) -> Reaction:
        """Learn from an answer and say what it costs; a stale outcome's reaction is not applied.

        Here: a block costs the session its place once ``MAX_ERRORS`` are counted, a throttled
        answer a rest as long as the site asked for, or `THROTTLED_REST`. A session whose proxy
        fails goes if it never worked, or if it alone has failed again and again.
        """
        return self.cost(lease.session, outcome)

    def amended(self, session: Session, outcome: Outcome) -> Reaction:
        """Take back a success that the spider found to be a block, and say what it costs."""
        return self.cost(session, outcome)

    def cost(self, session: Session, outcome: Outcome) -> Reaction:
        """Return what a verdict costs under the rules described at `report`."""
        verdict = outcome.verdict
        if verdict.kind is Kind.BLOCKED and session.blocks >= self.context.max_errors:
            return RETIRE
        if verdict.kind is Kind.THROTTLED:
            rest = THROTTLED_REST if verdict.retry_after is None else verdict.retry_after
            return Reaction(rest=rest)
        if verdict.kind is Kind.PROXY_ERROR:
            return fault_cost(session)
        if verdict.kind is Kind.SITE_ERROR and outcome.others_pass and session.errors >= ERROR_RUN:
            return Reaction(rest=ERROR_REST)
        return KEEP

    def abandoned(self, lease: Lease) -> None:
        """Note that a lease ended without an answer that counts."""

    def paused(self, lease: Lease) -> None:
        """Note that a lease ended because the next hop of a redirect, in one of its own, goes on."""
        self.abandoned(lease)

    def predict(self, lease: Lease) -> float | None:
        """Return the chance of success that a failed lease had, for the site's health.

        None: let the pool say.
        """
        return None

    def dump(self) -> dict[str, Any] | None:
        """Return what was learnt of the site, as plain JSON, or None."""
        return None

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `dump` returned in an earlier run; ignore what does not fit."""

    def dump_session(self, session: Session) -> Any:
        """Return what was learnt of one session, as plain JSON; called when it is saved."""
        return session.learnt

    def explain(self, now: float) -> str:
        """Say in a sentence or two what was learnt of the site; empty: nothing to say."""
        return ""
