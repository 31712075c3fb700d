"""The port between pools and where they are kept.

Every method may block, so all are called from one store thread and never from the reactor's; none
is called while a session is picked. A store is opened once by one owner (a process), which *claims*
the exits it uses (`Session.exit`: a proxy of a list on that site, or a session of a gateway) for a
limited time, so that two processes never overuse one exit together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from scrapy_session_filter.session import Row

SETTING = "SESSION_FILTER_STORE"
"""What errors of an address name."""

CLAIM_SECONDS = 60.0
"""How long a claim holds unless renewed; owners renew at a third of it."""

MAX_SESSIONS = 200_000
"""Most sessions one store holds; further new ones are not written, with a warning."""

MAX_ROW_BYTES = 64 * 1024
"""Longest session or endpoint state as JSON; a longer one is not written, with a warning."""

MAX_STATE_BYTES = 1024 * 1024
"""Longest learnt state of one site as JSON; a longer one is not written, with a warning."""


@dataclass(slots=True)
class Claim:
    """What `SessionStore.claim` granted.

    ``token`` fences it: changes made under a token that is no longer the newest for an exit are
    refused. ``exits`` are the newly claimed exits, ``rows`` the saved sessions that lie on them, in
    which large values may be `Unread`.
    ``short`` is how many more this owner lacks of an equal part: those who hold more are told by
    `SessionStore.wanted`, so asking again a little later helps.
    """

    token: int
    exits: set[str]
    rows: list[Row] = field(repr=False)  # they hold cookies
    short: int = 0


@dataclass(slots=True)
class Batch:
    """Changes to apply exactly once: a second `SessionStore.apply` of the same ``id`` does nothing.

    ``sessions`` are rows to write, ``removed`` holds (site, session id) of retired ones. ``sites``
    and ``endpoints`` map a site key or endpoint key to its learnt state (plain JSON). A site's
    state is merged into the saved one by its top-level keys, so that processes keep each other's
    (a key whose value is None is removed); an endpoint's replaces the saved one.
    """

    id: str
    sessions: list[Row] = field(default_factory=list, repr=False)
    removed: list[tuple[str, str]] = field(default_factory=list)
    sites: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sessions or self.removed or self.sites or self.endpoints)


class SessionStore(ABC):
    """Where pools live between and beside processes."""

    #: Whether several processes may use it at once.
    shared: bool = False

    #: How long a claim holds unless renewed.
    claim_seconds: float = CLAIM_SECONDS

    #: Changes not written because the claim of their exit was lost, or their session retired.
    refused: int = 0

    #: Rises when the store was found emptied while in use: then all that this owner holds is to be
    #: applied again, and the claims with it.
    generation: int = 0

    @classmethod
    @abstractmethod
    def from_uri(cls, uri: str, default_path: str) -> SessionStore:
        """Build the store that a ``SESSION_FILTER_STORE`` value names, without touching it.

        ``default_path`` is the file to use where the value names none. Raises `ConfigurationError`
        for a value that cannot be understood.
        """

    @abstractmethod
    def open(self) -> None:
        """Open or create it and become an owner; called once, before anything else.

        Raises `ConfigurationError` where the address cannot be used, `StoreVersionError` where it
        was written by a newer release, `StoreError` where it cannot be reached or read.
        """

    @abstractmethod
    def claim(self, site: str, offered: Collection[str], most: int | None = None) -> Claim:
        """Claim exits of a site for `CLAIM_SECONDS`.

        Candidates are the exits of the site's saved sessions and the ``offered`` ones. Granted are
        those no live owner holds, at most a fair share (free ones divided by live owners plus one,
        rounded up; a lone owner gets all), and at most ``most``; exits with saved sessions first.
        Asking again gives a share of what is left. Already held exits stay held and are not part
        of the answer; those lost are not granted again before `renew` has told of the loss.
        """

    @abstractmethod
    def renew(self) -> dict[str, set[str]]:
        """Prolong all claims of this owner; returns, by site, exits that were lost meanwhile.

        Their sessions belong to another owner now: changes to them are no longer written.
        """

    def held(self, site: str) -> set[str]:
        """Return the exits of a site that this owner holds as far as it knows; asks nobody."""
        return set()

    def alone(self) -> bool:
        """Return whether it is certain that there is no other owner, even if no call gets through."""
        return False

    def wanted(self) -> set[str]:
        """Return the sites where another owner lacks exits, which `surplus` has the numbers of."""
        return set()

    def surplus(self, site: str) -> int:
        """Return how many exits of a site to give back so that owners that came short get theirs.

        0 where nobody is short or this owner holds no more than an equal part.
        """
        return 0

    @abstractmethod
    def release(self, site: str, exits: Collection[str]) -> None:
        """Give claims back at once; the exits' changes must have been applied before."""

    @abstractmethod
    def site_state(self, site: str) -> dict[str, Any] | None:
        """Return what was learnt of a site, or None."""

    @abstractmethod
    def endpoint_states(self) -> dict[str, dict[str, Any]]:
        """Return the saved health of all endpoints by key."""

    @abstractmethod
    def apply(self, batch: Batch) -> None:
        """Write a batch durably, once; new exits in it become claimed by this owner.

        Changes on exits claimed by others are refused one by one and counted in `refused`, and so
        is a session that was removed before: retired is for good. Raises `StoreError` if it could
        not: the same batch may be applied again later.
        """

    @abstractmethod
    def sites(self) -> list[str]:
        """Return the keys of all sites that are known."""

    @abstractmethod
    def rows(self, site: str | None = None) -> Iterator[Row]:
        """Yield saved sessions, of one site or all, without claiming them (for people's eyes).

        Nothing in them is `Unread`.
        """

    @abstractmethod
    def has(self, site: str, session_id: str) -> bool:
        """Return whether a session is saved, whoever claims its exit."""

    @abstractmethod
    def close(self) -> None:
        """Release all claims and close; closing again does nothing, other calls are errors."""
