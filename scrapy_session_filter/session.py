"""A session, one request's hold on it, and what came of that.

Times are seconds of the pool's clock, which only ever runs forward. Saved rows hold wall-clock
times instead: `Session.to_row` and `Session.from_row` translate with the offset they are given, so
a clock that is set while a crawl runs moves nothing.
"""

from __future__ import annotations

import logging
import math
import secrets
import string
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.rows import (
    Unread,
    read_counts,
    read_headers,
    read_name,
    read_optional,
    read_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scrapy_session_filter.proxies import ProxyEndpoint
    from scrapy_session_filter.verdict import Verdict

logger = logging.getLogger("scrapy_session_filter")

Row = dict[str, Any]
"""A session as the stores keep it: plain JSON values, of which a store may leave some `Unread`."""

_ID_ALPHABET = string.ascii_lowercase + string.digits
_FIELDS = frozenset(
    {
        *("id", "site", "exit", "proxy", "headers", "born", "used", "rest"),
        *("uses", "oks", "blocks", "errors", "cookies", "learnt", "engine", "init"),
    }
)


def new_session_id() -> str:
    """Return an unguessable id that says nothing: 12 characters of ``[a-z0-9]``."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(12))


class State(Enum):
    """Where a session stands.

    RETIRED is terminal; here a session is that, too, once its exit is another process's.
    """

    LIVE = "live"
    RESTING = "resting"
    RETIRED = "retired"


LIVE, RESTING, RETIRED = State.LIVE, State.RESTING, State.RETIRED
"""The states, for what runs at every request: through the class they are dear before Python 3.12."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session may be used for; 0 means no limit.

    ``max_sessions``: unretired sessions in the pool. ``max_age`` and ``max_idle``: seconds since its
    birth and since its last use. ``max_uses``: requests, those in flight included. ``concurrency``:
    requests at once. ``delay``: least seconds between two requests.
    """

    max_sessions: int = 0
    max_age: float = 0.0
    max_idle: float = 0.0
    max_uses: int = 0
    concurrency: int = 0
    delay: float = 0.0


@dataclass(slots=True, eq=False)
class Session:
    """One visitor as a site sees it: proxy, header set and cookies, under one id.

    ``endpoint`` is None for a session without a proxy. ``uses`` counts the requests given to the
    session, those in flight included; ``oks`` and ``blocks`` their verdicts (a burst of blocks counts
    once). ``wake`` is when a resting session may work again. ``blamed`` is when a
    penalty last fell: an answer to a request sent before that belongs to the same burst.
    ``errors`` counts the failures of proxy or site in a row. ``inited`` is when the init hook last
    prepared the session; None: never, or it was found logged out since.
    ``cookies``, ``engine`` and ``learnt`` are saved with the session and owned by the engine
    bindings and the policy; ``memo`` is the policy's own working record and is not saved.
    """

    id: str
    site: str
    endpoint: ProxyEndpoint | None
    headers: Mapping[str, str]
    born: float
    used: float
    uses: int = 0
    oks: int = 0
    blocks: int = 0
    errors: int = 0
    in_flight: int = 0
    state: State = State.LIVE
    wake: float = 0.0
    free_at: float = 0.0  #: when its own delay lets it take the next request
    blamed: float = -math.inf
    _cookies: list[dict[str, Any]] | Unread | None = field(default=None, repr=False)
    engine: dict[str, Any] | None = field(default=None, repr=False)
    learnt: Any = None
    memo: Any = None
    extra: dict[str, Any] | None = None  #: fields of a newer release, kept as they are
    ready: bool = False  #: can take a request now, as the pool last found
    inited: float | None = None
    barred: bool = False  #: has to be prepared before it takes a request
    leaving: bool = False  #: takes no new request: its exit is wanted by another process

    @property
    def cookies(self) -> list[dict[str, Any]] | None:
        """As they were last saved, log-ins perhaps; their text is read when first asked for."""
        if isinstance(self._cookies, Unread):
            try:
                self._cookies = self._cookies.read()
            except InvalidRow as error:
                logger.warning("The cookies of session %s are left out: %s", self.id, error)
                self._cookies = None
        return self._cookies  # type: ignore[return-value]

    @cookies.setter
    def cookies(self, cookies: list[dict[str, Any]] | None) -> None:
        self._cookies = cookies

    @property
    def proven(self) -> bool:
        """Whether a request through it ever succeeded."""
        return self.oks > 0

    @property
    def exit(self) -> str:
        """What a process claims in a shared store: the proxy of a list, else the session itself."""
        endpoint = self.endpoint
        return self.id if endpoint is None or endpoint.per_session else endpoint.key

    def to_row(self, wall_offset: float) -> Row:
        """Return the session as plain JSON; ``wall_offset`` is wall clock minus pool clock."""
        return {
            **(self.extra or {}),
            "id": self.id,
            "site": self.site,
            "exit": self.exit,
            "proxy": self.endpoint.key if self.endpoint else None,
            "headers": dict(self.headers),
            "born": self.born + wall_offset,
            "used": self.used + wall_offset,
            "uses": self.uses,
            "oks": self.oks,
            "blocks": self.blocks,
            "errors": self.errors,
            "rest": self.wake + wall_offset if self.state is State.RESTING else None,
            "cookies": self.cookies,
            "learnt": self.learnt,
            "engine": self.engine,
            "init": None if self.inited is None else self.inited + wall_offset,
        }

    @classmethod
    def from_row(
        cls, row: Row, endpoint: ProxyEndpoint | None, *, now: float, wall_offset: float
    ) -> Session:
        """Build a session from a saved row.

        A birth or last use in the future (the clock was set back) becomes now. Raises `InvalidRow`
        where a field is missing, has the wrong type or is out of range.
        """
        id_, site = read_name(row)
        uses, oks, blocks, errors = read_counts(row)
        rest, inited = row.get("rest"), row.get("init")
        born = read_seconds(row, "born") - wall_offset
        used = read_seconds(row, "used") - wall_offset
        session = cls(
            id_,
            site,
            endpoint,
            read_headers(row),
            min(now, born),
            min(now, used),
            uses,
            oks,
            blocks,
            errors,
            _cookies=read_optional(row, "cookies", (list, Unread)),
            engine=read_optional(row, "engine", dict),
            learnt=row.get("learnt"),
            extra=None if row.keys() <= _FIELDS else _extra(row),
        )
        if inited is not None:
            session.inited = min(read_seconds(row, "init") - wall_offset, now)
        if rest is not None:
            wake = read_seconds(row, "rest") - wall_offset
            if wake > now:  # a rest that ended meanwhile is over
                session.state = State.RESTING
                session.wake = wake
        return session


def _extra(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _FIELDS}


@dataclass(slots=True, eq=False)
class Lease:
    """One request's hold on one session; ends exactly once, reported or abandoned.

    ``attempt`` is 0 for a page's first request and counts what blocks have cost it. ``why`` is the
    policy's reason as a slug (it names a stat), ``tag`` the policy's own record of the pick.
    """

    id: str
    session: Session
    acquired: float
    attempt: int
    why: str
    tag: Any = None
    ended: bool = False
    counts: bool = True  #: false for the next hop of a redirect: its use was counted already

    @property
    def site(self) -> str:
        """The key of the pool that gave the lease."""
        return self.session.site


@dataclass(slots=True, eq=False)
class Outcome:
    """What came of a lease, as the policy sees it.

    ``sent`` and ``latency`` are seconds: when the request really left (slots and delays lie between
    that and the lease) and how long the site took. ``stale`` marks an answer to a request sent
    before the session's last penalty: one more of the same burst, or a success that says nothing
    about now. ``site_down`` is set while the site as a whole fails: nobody is to blame.
    ``others_pass`` says that another session got through since this one last did.
    """

    verdict: Verdict
    now: float
    sent: float
    latency: float
    stale: bool = False
    site_down: bool = False
    others_pass: bool = False
