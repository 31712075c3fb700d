"""Runs the user's ``session_filter_init``: prepares a session before it serves its first request.

The hook is a spider method ``session_filter_init(session, fetch)``, or a function of that form named
in SESSION_FILTER_INIT. What it fetches goes through the very session, is judged like any answer, and
is not retried: that is the hook's to decide. Beside it ``session_filter_logged_out(response)`` tells
of each answer whether the session has to be prepared anew.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from scrapy import Request

from scrapy_session_filter.admission import needs_session
from scrapy_session_filter.exceptions import ConfigurationError, SessionFilterInitError
from scrapy_session_filter.hook_errors import HookErrors
from scrapy_session_filter.inits import INIT, INIT_FAILED, SiteInits
from scrapy_session_filter.refusals import IgnoredRefused
from scrapy_session_filter.session import Lease
from scrapy_session_filter.tracking import PIN, VERDICT, Track, is_robots, strip
from scrapy_session_filter.verdict import OK, Kind, Strength, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scrapy.crawler import Crawler
    from scrapy.http import Response

    from scrapy_session_filter.extension import SessionFilterExtension
    from scrapy_session_filter.pool import SessionPool

logger = logging.getLogger("scrapy_session_filter")

HOOK, CHECK = "session_filter_init", "session_filter_logged_out"
CLOSED = "session_filter_init_failed"
"""Reason with which the spider closes after too many failures in a row."""
INIT_SHARE = 4
"""At most this part of CONCURRENT_REQUESTS is at the inits of one site: others have to go on."""
LONGEST_INIT = 600.0
"""Seconds; a hook that takes longer has failed."""

_OWN_RULES = {"dont_retry": True, "dont_obey_robotstxt": True, "dont_cache": True}
"""Meta of what a hook fetches. The fetch of a robots.txt would wait for a session itself, and an
answer out of the cache logs nobody in."""


@dataclass(frozen=True, slots=True)
class InitSession:
    """The session that a hook is to prepare; ``renewal``: it has worked, and was logged out."""

    id: str
    site: str
    headers: Mapping[str, str]
    renewal: bool


@dataclass(slots=True, eq=False)
class _Init:
    pool: SessionPool
    lease: Lease
    held: list[str] = field(default_factory=list)  #: leases of its requests
    verdict: Verdict = OK  #: on the last answer
    broken: bool = False  #: it could not go on, through no fault of its session
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class InitRunner:
    """The inits of a crawl: one task for each session that is being prepared."""

    @classmethod
    def of(cls, crawler: Crawler, extension: SessionFilterExtension) -> InitRunner | None:
        """Return the crawl's inits; None where neither spider nor settings have a hook.

        Raises `ConfigurationError` where the other half of a hook is missing.
        """
        spider, settings = getattr(crawler, "spider", None), extension.settings
        hook = getattr(spider, HOOK, settings.init)
        check = getattr(spider, CHECK, settings.logged_out)
        if hook is not None:
            return cls(crawler, extension, hook, check)
        if check is not None:
            expected = f"{HOOK} beside it, which logs a session in again"
            raise ConfigurationError(CHECK, getattr(check, "__qualname__", "..."), expected)
        return None

    def __init__(
        self,
        crawler: Crawler,
        extension: SessionFilterExtension,
        hook: Callable[..., Any],
        check: Callable[..., Any] | None,
    ) -> None:
        self._crawler = crawler
        self._extension = extension
        self._hook = hook
        self._check = check
        self._running: dict[str, _Init] = {}  # by their lease's id
        self._errors = HookErrors(extension.count)

    def for_pool(self, pool: SessionPool) -> SiteInits:
        """Return what decides about the inits of a new pool."""
        return SiteInits(
            pool,
            self._begin,
            at_once=max(1, self._crawler.settings.getint("CONCURRENT_REQUESTS") // INIT_SHARE),
            attempts=self._extension.settings.init_attempts,
        )

    def cancel(self) -> None:
        """Break off all that run: nobody waits for them any more."""
        for init in self._running.values():
            self._drop(init)
            if init.task is not None:
                init.task.cancel()

    def _drop(self, init: _Init) -> None:
        for lease_id in init.held:  # what is still out is not waited for
            self._extension.leases.let_go(lease_id)
        if init.pool.inits is not None:
            init.pool.inits.drop(init.lease)

    # -- one init --------------------------------------------------------------------------------

    def _begin(self, pool: SessionPool, lease: Lease) -> None:
        init = self._running[lease.id] = _Init(pool, lease)
        init.task = asyncio.ensure_future(self._run(init))

    async def _run(self, init: _Init) -> None:
        pool, session = init.pool, init.lease.session
        self._extension.count("inits/started")
        try:
            verdict = await self._ask(init)
        except asyncio.CancelledError:
            self._drop(init)
            return
        finally:
            del self._running[init.lease.id]
        if init.broken:
            self._drop(init)
            return
        pool.end_init(init.lease, verdict)
        if verdict is None:
            self._extension.count("inits/ok")
            logger.debug("Session %s of %s is prepared", session.id, pool.site)
            return
        self._extension.count("inits/failed")
        self._extension.count(f"inits/failed/{verdict.kind}")
        logger.info("The init of session %s of %s failed: %s", session.id, pool.site, verdict)
        if pool.inits is not None and pool.inits.exhausted:
            self._give_up(pool.site, pool.inits.failed, verdict)

    def _give_up(self, site: str, failed: int, verdict: Verdict) -> None:
        if not self._extension.closing:
            logger.error("%s: %d inits in a row failed, at last with %s", site, failed, verdict)
        self._extension.close_spider(CLOSED)

    async def _ask(self, init: _Init) -> Verdict | None:
        """Run the hook; return None where it went well, else what the session pays for."""
        session = init.lease.session
        told = InitSession(session.id, session.site, session.headers, session.proven)
        try:
            done = self._hook(told, partial(self._fetch, init))
            if inspect.isawaitable(done):
                done = await asyncio.wait_for(done, LONGEST_INIT)
        except Exception as error:  # noqa: BLE001 - a user's hook may raise anything
            if init.verdict.kind is Kind.OK and not init.broken:
                self._errors.note(f"{HOOK} raised {type(error).__name__}", error)
        else:
            if done is None or done:
                return None
        if init.verdict.kind is Kind.OK:
            return Verdict(Kind.BLOCKED, INIT_FAILED, Strength.WEAK)
        return init.verdict

    async def _fetch(self, init: _Init, request: Request | str) -> Response:
        """Fetch a request (or URL) through the session.

        Raises `SessionFilterInitError` where the verdict on the answer is not OK, and whatever the
        download raises.
        """
        request = Request(request) if isinstance(request, str) else request.copy()
        track = Track.of(request)
        if track is not None:  # made with copied meta
            self._clean(request, track)
        request.meta.pop(PIN, None)
        request.meta.update({**_OWN_RULES, **request.meta})
        request.callback, request.dont_filter = None, True
        Track(init=init.lease.id).put_on(request)
        self._check_going(init, request)
        if self._crawler.engine is None:
            msg = "an init without an engine"
            raise RuntimeError(msg)
        response = await self._crawler.engine.download_async(request)
        if response.request is not None and VERDICT in response.request.meta:
            self._check_answer(response, response.request.meta[VERDICT])
        return response

    def _check_going(self, init: _Init, request: Request) -> None:
        """Raise `IgnoredRefused` where an init cannot go on, and note that its session is not at fault.

        It was broken off, the spider closes, or what was claimed in a shared store is no longer ours.
        """
        if init.lease.ended or self._extension.closing or init.pool.lapsed:
            init.broken = True
            msg = f"{request} was refused: the init that it belongs to cannot go on"
            raise IgnoredRefused(msg)

    @staticmethod
    def _check_answer(response: Response, verdict: dict[str, Any]) -> None:
        if verdict["kind"] != Kind.OK.value:
            raise SessionFilterInitError(response, verdict)

    # -- its requests ----------------------------------------------------------------------------

    def put_on(self, request: Request, track: Track) -> None:
        """Put the session on a request of its own init, or on the next hop of one.

        Raises `IgnoredRefused` where it cannot carry the session, or the init has ended.
        """
        init = self._running.get(track.init or "")
        if init is None:
            msg = f"{request} was refused: the init that it belongs to has ended"
            raise IgnoredRefused(msg)
        self._check_going(init, request)
        self._clean(request, track)
        fresh = Track(init=track.init)
        fresh.put_on(request)
        if not needs_session(request, self._extension.binding.refusal, self._extension.count):
            return
        session, now = init.lease.session, self._extension.clock()
        # Under the init's own lease, as one that has ended already: whatever becomes of the request,
        # it counts as no use, and is blamed on nobody before the init as a whole has failed.
        name = f"{init.lease.id}.{len(init.held)}"
        init.held.append(name)
        lease = Lease(name, session, now, 0, INIT, counts=False, ended=True)
        fresh.marks = self._extension.binding.put_on(request, session)
        fresh.session, fresh.site, fresh.lease = session.id, init.pool.site, lease.id
        fresh.put_on(request)
        self._extension.leases.hold(lease, init.pool, request)
        self._extension.count("inits/requests")

    def _clean(self, request: Request, track: Track) -> None:
        if track.marks is not None:
            self._extension.binding.take_off(request, track.marks)
        strip(request, track)

    def judged(self, lease: Lease, verdict: Verdict) -> bool:
        """Note the verdict on an answer to an init's request; return whether it is one."""
        if lease.why != INIT:
            return False
        init = self._running.get(lease.id.rpartition(".")[0])
        if init is not None:
            init.verdict = verdict
        return True

    # -- logged out ------------------------------------------------------------------------------

    async def is_logged_out(
        self, request: Request, response: Response, lease: Lease, verdict: Verdict
    ) -> bool:
        """Return whether an answer shows that its session is logged out, as the check says.

        It is not asked about the answers that an init gets itself. In DRY_RUN it is only counted.
        """
        if (
            self._check is None
            or lease.why == INIT
            or verdict.kind is Kind.PROXY_ERROR
            or is_robots(request)
        ):
            return False
        response.request = request
        try:
            found = self._check(response)
            if inspect.isawaitable(found):
                found = await found
        except Exception as error:  # noqa: BLE001 - a spider may raise anything; the crawl goes on
            self._errors.note(f"{CHECK} raised {type(error).__name__}", error)
            return False
        if found:
            self._extension.count("logged_out")
        return bool(found) and not self._extension.settings.dry_run
