"""Which request is this, and what on it is ours.

Scrapy hands a request on as copies: redirects and retries copy its meta, spiders copy the meta of a
response into new requests. All that is ours lives under one meta key, as plain values, and tells these
cases apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from scrapy.http.request import NO_CALLBACK

if TYPE_CHECKING:
    from scrapy import Request

META_KEY = "_session_filter"
OPT_OUT = "session_filter"
PIN = "session_filter_session"
OPTIONAL = "session_filter_optional"
SITE = "session_filter_site"
VERDICT = "session_filter_verdict"


class Arrival(Enum):
    """How a request came to the middleware."""

    NEW = "new"
    AGAIN = "again"  #: given back to the scheduler, or sent anew by us after a block
    REDIRECT = "redirect"  #: the next hop of a chain that has a session
    RETRY = "retry"  #: sent anew by Scrapy's RetryMiddleware


@dataclass(slots=True)
class Track:
    """What we know of a page on its way through attempts, redirects and waits.

    ``attempts`` counts what BLOCKED, THROTTLED and PROXY_ERROR have cost, ``countries`` those that were
    about an exit's country; ``avoid`` holds the ids of sessions the page failed on. ``marks`` is what
    the engine binding needs to undo itself. ``returned`` marks a copy of ours, ``scheduled`` one that
    went through the scheduler, ``inline`` a request that does not. ``lifted`` is set while the user's
    ``dont_filter`` is false and the request has ours; ``start`` says how the first request of a
    redirect chain can be made again, ``restarted`` that it was; ``asked`` (wall clock) since when a pin
    waits; ``amended`` that a callback reported the answer as a block; ``delivered`` holds the meta keys
    with which we let a block page pass that was handed over. ``init`` is the lease of the init that
    fetches the request; ``renewed`` marks a page whose session was prepared anew for it, ``stays`` that
    it waits for that one.
    """

    session: str | None = None
    site: str | None = None
    lease: str | None = None
    run: str | None = None
    retry_times: int = 0
    redirect_times: int = 0
    pinned: bool = False
    attempts: int = 0
    countries: int = 0
    avoid: list[str] = field(default_factory=list)
    marks: dict[str, Any] | None = None
    returned: bool = False
    scheduled: bool = False
    inline: bool = False
    lifted: bool = False
    restarted: bool = False
    start: dict[str, Any] | None = None
    asked: float | None = None
    amended: bool = False
    delivered: list[str] = field(default_factory=list)
    init: str | None = None
    renewed: bool = False
    stays: bool = False

    @classmethod
    def of(cls, request: Request) -> Track | None:
        """Return the request's track, or None."""
        meta = request.meta
        if META_KEY not in meta:
            return None
        track = cls(**meta[META_KEY])
        track.avoid = list(track.avoid)  # copies of a request share what is in their meta
        return track

    def put_on(self, request: Request) -> None:
        """Write the track to the request, as plain values; of what few requests have, only that."""
        saved = dict(zip(_HELD, _held(self), strict=True))
        rest = _rest(self)
        if rest != _BLANK:
            saved |= {n: v for n, v, blank in zip(_REST, rest, _BLANK, strict=True) if v != blank}
        request.meta[META_KEY] = saved


_HELD = ("session", "site", "lease", "run", "marks")  #: what every request with a session has
_REST = tuple(field.name for field in fields(Track) if field.name not in _HELD)
_held, _rest = attrgetter(*_HELD), attrgetter(*_REST)
_BLANK = _rest(Track())


def lease_of(request: Request) -> str | None:
    """Return the id of the lease under which a request is out, or None."""
    meta = request.meta
    return meta[META_KEY]["lease"] if META_KEY in meta else None


def arrival(request: Request, track: Track | None) -> Arrival:
    """Tell how a request came here, by what changed since a session was put on it.

    A track is on the request if it is a copy, or was made with copied meta. If neither count rose and
    we did not send it ourselves, it is a new page, whatever its meta holds.
    """
    if track is None:
        return Arrival.NEW
    if track.returned:
        return Arrival.AGAIN
    if request.meta.get("redirect_times", 0) > track.redirect_times:
        return Arrival.REDIRECT
    if request.meta.get("retry_times", 0) > track.retry_times:
        return Arrival.RETRY
    return Arrival.NEW


def note_scheduled(request: Request) -> None:
    """Note on a copy of ours that the scheduler has it: somebody will ask for it."""
    meta = request.meta
    if META_KEY in meta and meta[META_KEY].get("returned"):
        meta[META_KEY] = {**meta[META_KEY], "scheduled": True}  # copies share what is in their meta


def is_inline(request: Request) -> bool:
    """Return whether no scheduler stands behind the request: robots.txt, media, own downloads."""
    return request.callback is NO_CALLBACK


def is_robots(request: Request) -> bool:
    """Return whether the request is Scrapy's own fetch of a robots.txt."""
    return is_inline(request) and "dont_obey_robotstxt" in request.meta


LET_PASS = ("dont_retry", "dont_redirect", "handle_httpstatus_all")
"""Meta with which a block page that is delivered passes Scrapy's other middlewares."""
OF_A_CHAIN = ("redirect_times", "redirect_ttl", "redirect_urls", "redirect_reasons")
"""Meta in which Scrapy keeps the way that a request came by redirects."""


def strip(request: Request, track: Track) -> None:
    """Remove what we wrote into the meta; a pin stays if it is the user's own."""
    meta = request.meta
    for key in track.delivered:
        meta.pop(key, None)
    meta.pop(META_KEY, None)
    meta.pop(VERDICT, None)
    if not track.pinned and meta.get(PIN) == track.session:
        meta.pop(PIN, None)
