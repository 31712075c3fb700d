"""The scheduler's request queue, told apart by site: a site with no session ready is passed over."""

from __future__ import annotations

import hashlib
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scrapy.exceptions import NotConfigured
from scrapy.utils.misc import build_from_crawler, load_object

from scrapy_session_filter.admission import goes_without
from scrapy_session_filter.extension import extension_of
from scrapy_session_filter.tracking import PIN, Track, note_scheduled

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.pqueues import QueueProtocol
    from typing_extensions import Self

    from scrapy_session_filter.extension import SessionFilterExtension

EMPTY_QUEUES = 32
"""Queues of sites without requests that are kept open."""

_FREE = ""  # the "site" of requests that go without a session
_STATE = "session_filter_sites"
WRAPPED = "SESSION_FILTER_SCHEDULER_PRIORITY_QUEUE"
DEFAULT = "scrapy.pqueues.DownloaderAwarePriorityQueue"


class SessionAwarePriorityQueue:
    """Holds one queue of the class the user has (``SCHEDULER_PRIORITY_QUEUE``) for each site.

    Sites take turns: the one with the fewest requests in flight comes first, as in Scrapy's own
    DownloaderAwarePriorityQueue; within a site the order is that of the wrapped queue. A site whose
    pool has no session ready is passed over, but for one request that waits for the next.

    Disk queues lie in one folder a site. A folder that was written without this queue is taken over.
    """

    @classmethod
    def from_crawler(
        cls,
        crawler: Crawler,
        downstream_queue_cls: type[QueueProtocol],
        key: str,
        startprios: Any = (),
        **options: Any,
    ) -> Self:
        """Make the queue; ``startprios`` is what `close` returned in an earlier run."""
        return cls(crawler, downstream_queue_cls, key, startprios, **options)

    def __init__(
        self,
        crawler: Crawler,
        downstream_queue_cls: type[QueueProtocol],
        key: str,
        startprios: Any = (),
        **options: Any,
    ) -> None:
        self._crawler = crawler
        self._extension: SessionFilterExtension | None = None
        with suppress(NotConfigured):  # disabled: the folders of an earlier run are still read
            self._extension = extension_of(crawler, type(self).__name__)
            self._extension.turns.has_queue = True
        self._wrapped = load_object(crawler.settings.get(WRAPPED, DEFAULT))
        self._downstream = downstream_queue_cls
        self._key = key
        self._options = options
        self._queues: dict[str, Any] = {}  # of sites with requests
        self._empty: dict[str, Any] = {}  # kept for the next request: making one costs more
        self._turn = 0  # counts pops, so that sites with equally many in flight take turns
        self._last: dict[str, int] = {}
        self._open(startprios)

    def _open(self, startprios: Any) -> None:
        if not startprios:
            return
        if isinstance(startprios, dict) and _STATE in startprios:
            for site, state in startprios[_STATE].items():
                self._queues[site] = self._make(site, state)
            return
        # A queue of a run without us: its requests go through this one as they are asked for.
        old = build_from_crawler(
            self._wrapped,
            self._crawler,
            downstream_queue_cls=self._downstream,
            key=self._key,
            startprios=startprios,
            **self._options,
        )
        while (request := old.pop()) is not None:
            self.push(request)
        old.close()

    def _make(self, site: str, startprios: Any = ()) -> Any:
        key = f"{self._key}/{_folder(site)}" if self._key else ""
        if key:
            Path(key).mkdir(parents=True, exist_ok=True)
        return build_from_crawler(
            self._wrapped,
            self._crawler,
            downstream_queue_cls=self._downstream,
            key=key,
            startprios=startprios,
            **self._options,
        )

    def _site_of(self, request: Request) -> str:
        if self._extension is None or goes_without(request):
            return _FREE
        try:
            site = self._extension.site_of(request)
        except Exception:  # noqa: BLE001 - the user's function; the middleware lets it be seen
            return _FREE
        pin = request.meta.get(PIN)
        track = None if pin is None else Track.of(request)
        # One that was given back waits apart: its site may go on while its session rests.
        return f"{site}\n{pin}" if track is not None and track.returned else site

    def push(self, request: Request) -> None:
        """Queue a request under its site."""
        note_scheduled(request)
        site = self._site_of(request)
        queue = self._queues.get(site)
        if queue is not None:
            queue.push(request)
            return
        if site not in self._empty:
            self._empty[site] = self._make(site)
        self._empty[site].push(request)  # may fail: a request that cannot be serialised
        self._queues[site] = self._empty.pop(site)

    def pop(self) -> Request | None:
        """Return the next request of a site that can take it, or None."""
        site, will_wait = self._next_site()
        if site is None:
            return None
        queue = self._queues[site]
        if will_wait and self._extension is not None:
            self._extension.turns.handed_out(site.partition("\n")[0])
        self._turn += 1
        self._last[site] = self._turn
        request: Request | None = queue.pop()
        if not len(queue):
            self._empty[site] = self._queues.pop(site)
            if len(self._empty) > EMPTY_QUEUES:
                self._drop_empty()
        return request

    def _next_site(self) -> tuple[str | None, bool]:
        """Return the site whose turn it is, and whether its request will have to wait."""
        best, best_rank, will_wait = None, (math.inf, math.inf), False
        soonest = math.inf
        for site in self._queues:
            wait, in_flight = self._load_of(site)
            if wait > 0:
                soonest = min(soonest, wait)
                continue
            rank = (in_flight, self._last.get(site, 0))
            if rank < best_rank:
                best, best_rank, will_wait = site, rank, wait < 0
        if best is None and soonest < math.inf and self._extension is not None:
            self._extension.pulse.after(soonest)
        return best, will_wait

    def _load_of(self, site: str) -> tuple[float, int]:
        if self._extension is None or site == _FREE:
            return 0.0, 0
        return self._extension.turns.load_of(*site.split("\n", 1))

    def _drop_empty(self) -> None:
        for site, queue in self._empty.items():
            queue.close()
            self._last.pop(site, None)
            if self._key:
                with suppress(OSError):
                    Path(self._key, _folder(site)).rmdir()
        self._empty.clear()

    def peek(self) -> Request | None:
        """Return the request that `pop` would return now, where the wrapped queue can tell."""
        site, _ = self._next_site()
        if site is None:
            return None
        request: Request | None = self._queues[site].peek()
        return request

    def close(self) -> dict[str, dict[str, Any]]:
        """Close all queues; returns what is needed to open them again."""
        self._drop_empty()
        return {_STATE: {site: queue.close() for site, queue in self._queues.items()}}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))


def _folder(site: str) -> str:
    """Return a folder name of a site key that no other key has."""
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", site)[:60]
    return f"{readable}-{hashlib.blake2b(site.encode(), digest_size=6).hexdigest()}"
