"""A session, one request's hold on it, and what came of that.

Times are seconds of the pool's clock, which only ever runs forward. Saved rows hold wall-clock
times instead: `Session.to_row` and `Session.from_row` translate with the offset they are given, so
a clock that is set while a crawl runs moves nothing.
"""

from __future__ import annotations

import math
import re
import secrets
import string
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import InvalidRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scrapy_session_filter.proxies import ProxyEndpoint
    from scrapy_session_filter.verdict import Verdict

Row = dict[str, Any]
"""A session as the stores keep it: plain JSON values only."""

_ID_ALPHABET = string.ascii_lowercase + string.digits
_ID = re.compile(r"[a-z0-9]{12}\Z")
_COUNT_LIMIT = 2**53  # what JSON readers keep exact
_HEADER_LIMIT = 1024  # characters; longer ones are not a browser's
_HEADER_SETS = 4096  # that are remembered, to be shared
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
    cookies: list[dict[str, Any]] | None = field(default=None, repr=False)  #: log-ins, perhaps
    engine: dict[str, Any] | None = field(default=None, repr=False)
    learnt: Any = None
    memo: Any = None
    extra: dict[str, Any] | None = None  #: fields of a newer release, kept as they are
    ready: bool = False  #: can take a request now, as the pool last found
    inited: float | None = None
    barred: bool = False  #: has to be prepared before it takes a request
    leaving: bool = False  #: takes no new request: its exit is wanted by another process

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
        _check_counts(row)
        rest = _optional(row, "rest", (int, float))
        inited = _optional(row, "init", (int, float))
        session = cls(
            id=_session_id(row),
            site=_text(row, "site"),
            endpoint=endpoint,
            headers=_headers(row),
            born=min(_seconds(row, "born") - wall_offset, now),
            used=min(_seconds(row, "used") - wall_offset, now),
            uses=row["uses"],
            oks=row["oks"],
            blocks=row["blocks"],
            errors=row["errors"],
            cookies=_optional(row, "cookies", list),
            engine=_optional(row, "engine", dict),
            learnt=row.get("learnt"),
            extra=None if row.keys() <= _FIELDS else _extra(row),
        )
        if inited is not None:
            session.inited = min(_seconds(row, "init") - wall_offset, now)
        wake = -math.inf if rest is None else _seconds(row, "rest") - wall_offset
        if wake > now:  # a rest that ended meanwhile is over
            session.state = State.RESTING
            session.wake = wake
        return session


_header_sets: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}


def _headers(row: Row) -> dict[str, str]:
    """Return a row's headers; sessions with equal ones share them."""
    value = row.get("headers")
    if isinstance(value, dict):
        key = tuple(value.items())
        with suppress(TypeError):  # a value that is no text
            if (known := _header_sets.get(key)) is not None:
                return known
        if all(
            isinstance(k, str) and isinstance(v, str) and len(v) <= _HEADER_LIMIT for k, v in key
        ):
            if len(_header_sets) >= _HEADER_SETS:
                _header_sets.clear()
            return _header_sets.setdefault(key, dict(key))
    msg = "headers must map names to values"
    raise InvalidRow(msg)


def _extra(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _FIELDS}


def _session_id(row: Row) -> str:
    value = row.get("id")
    if not isinstance(value, str) or not _ID.match(value):
        msg = "id must be 12 characters of [a-z0-9]"
        raise InvalidRow(msg)
    return value


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        msg = f"{name} must be a text"
        raise InvalidRow(msg)
    return value


def _check_counts(row: Row) -> None:
    for name in ("uses", "oks", "blocks", "errors"):
        value = row.get(name)
        if type(value) is not int or not 0 <= value <= _COUNT_LIMIT:
            msg = f"{name} must be a count"
            raise InvalidRow(msg)


def _seconds(row: Row, name: str) -> float:
    value: Any = row.get(name)
    if type(value) in (float, int) and abs(value) <= _COUNT_LIMIT:  # which no NaN is
        return float(value)
    msg = f"{name} must be a time in seconds"
    raise InvalidRow(msg)


def _optional(row: Row, name: str, kinds: type | tuple[type, ...]) -> Any:
    value = row.get(name)
    if value is not None and not isinstance(value, kinds):
        msg = f"{name} has the wrong type"
        raise InvalidRow(msg)
    return value


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
