"""The browser contexts of a crawl's sessions: opened when needed, closed when idle, never too many.

scrapy-playwright has one handler, with a browser of its own, for each URL scheme, keeps every context
until the crawl ends, and at PLAYWRIGHT_MAX_CONTEXTS waits for one to close, holding a lock that stops
all its requests. So room is made here first. Its ``context_wrappers``, ``context_semaphore``,
``context_launch_lock`` and ``_create_browser_context`` are touched in this module only.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.session import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scrapy import Request

    from scrapy_session_filter.engines.browser_state import Key, Row
    from scrapy_session_filter.session import Session

logger = logging.getLogger("scrapy_session_filter")

IDLE_CONTEXTS = 32
"""Idle contexts kept per handler where PLAYWRIGHT_MAX_CONTEXTS sets no bound; 2 to 3 MB each."""
PAGE_PATIENCE = 60.0
"""Seconds that a page given to a callback keeps the context of a session that is gone or rests."""
CLOSE_PATIENCE = 10.0
"""Seconds that all contexts may take to close at the end of a crawl."""
LOOK = 0.2
"""Seconds between two looks for room, besides those when something ends."""
PATROL = 1.0
"""Seconds between two looks whether a request without a session hangs for want of room."""


@dataclass(eq=False)
class Context:
    """One session's context in one handler; ``name`` is scrapy-playwright's and never used again.

    ``users`` are the requests in it, ``pages`` those that callbacks have, ``synced`` the cookies that
    browser and session are known to agree on.
    """

    name: str
    session: Session
    handler: Any
    users: weakref.WeakSet[Request] = field(default_factory=weakref.WeakSet)
    pages: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)
    synced: dict[Key, Row] = field(default_factory=dict, repr=False)
    closing: bool = False
    opening: bool = False
    leaving: bool = False  #: it is to be closed as soon as it is free
    unloaded: bool = False  #: its session is no longer in a pool, though it may be well

    @property
    def browser_context(self) -> Any:
        """Playwright's context; None before it is opened, and when it is gone."""
        wrapper = self.handler.context_wrappers.get(self.name)
        return None if wrapper is None else wrapper.context

    @property
    def is_unwanted(self) -> bool:
        """Whether its session will not come back to it soon."""
        return self.unloaded or self.session.state is not State.LIVE

    @property
    def is_busy(self) -> bool:
        """Whether a request or a callback needs it."""
        return self.opening or bool(self.users) or any(not p.is_closed() for p in self.pages)


class Contexts:
    """Keeps the contexts of all sessions in all handlers.

    ``count`` hears of events by name, ``clock`` returns seconds.
    """

    def __init__(self, count: Callable[[str], None], clock: Callable[[], float]) -> None:
        self.count = count
        self._clock = clock
        self._opened = 0
        self._known: dict[tuple[int, str], Context] = {}  # by handler and session; oldest use first
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._patrol: asyncio.Task[None] | None = None
        self._complained = False

    def __iter__(self) -> Iterator[Context]:
        return iter(list(self._known.values()))

    async def claim(
        self,
        handler: Any,
        session: Session,
        request: Request,
        *,
        patience: float,
        kwargs: Callable[[], tuple[dict[str, Any], dict[Key, Row]]],
    ) -> Context | None:
        """Return the session's open context, with the request among its users.

        None where there was no room for one within ``patience`` seconds. ``kwargs`` says how to open
        it, and which cookies it then has. Raises what the browser raises.
        """
        deadline = self._clock() + patience
        key = (id(handler), session.id)
        while True:
            context = self._known.get(key)
            if context is not None and not context.opening and not context.closing:
                if context.browser_context is not None:
                    context.users.add(request)
                    self._touch(key, context)
                    return context
                del self._known[key]  # the browser is gone, or closed it
                context = None
            if context is None and self._has_room(handler):
                return await self._open(key, handler, session, request, kwargs)
            if self._clock() >= deadline:
                self._complain(handler)
                return None
            await self._sleep(min(LOOK, max(deadline - self._clock(), 0.01)))

    async def _open(
        self,
        key: tuple[int, str],
        handler: Any,
        session: Session,
        request: Request,
        kwargs: Callable[[], tuple[dict[str, Any], dict[Key, Row]]],
    ) -> Context:
        self._opened += 1
        name = f"{session.id}.{self._opened}"
        context = self._known[key] = Context(name, session, handler, opening=True)
        context.users.add(request)
        if self._patrol is None:
            self._patrol = asyncio.ensure_future(self._keep_free())
        try:
            options, context.synced = kwargs()
            await handler._create_browser_context(name=name, context_kwargs=options)  # noqa: SLF001
        except BaseException:
            self._known.pop(key, None)
            raise
        finally:
            context.opening = False
            self._wake()
        self.count("contexts/opened")
        self._touch(key, context)
        return context

    def release(self, context: Context, request: Request, page: Any = None) -> None:
        """End a request's use of its context; ``page`` was left open for its callback."""
        context.users.discard(request)
        if page is not None and not page.is_closed():
            context.pages.add(page)
        if not context.users and (browser_context := context.browser_context) is not None:
            for stray in set(browser_context.pages) - set(context.pages):  # opened by the site
                self.close_page(stray)
        if self._known.get((id(context.handler), context.session.id)) is not context:
            # The browser lost it under way, and scrapy-playwright opened it again.
            self._start_to_close(context)
        self._trim(context.handler)
        self._wake()

    def dismiss(self, session: Session, *, unloaded: bool = False) -> None:
        """Close the contexts of a session that rests or is gone, as soon as nobody needs them."""
        for context in self:
            if context.session is session:
                if not session.in_flight:
                    context.users.clear()  # of requests that vanished
                context.unloaded |= unloaded
                if not context.leaving:
                    context.leaving = True
                    self.spawn(self._close_when_free(context))

    def close_page(self, page: Any) -> None:
        """Close a page that nobody is going to use."""
        self.spawn(_close_page(page))

    def context_of(self, page: Any) -> Context | None:
        """Return the context a page belongs to."""
        return next((c for c in self if c.browser_context is page.context), None)

    async def close(self) -> None:
        """Close all contexts, needed or not."""
        if self._patrol is not None:
            self._patrol.cancel()
        for context in self:
            self._start_to_close(context)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_PATIENCE)
        for task in list(self._tasks):
            task.cancel()

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside the crawl."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- room --------------------------------------------------------------------------------------

    def _has_room(self, handler: Any) -> bool:
        """Return whether one more context may be opened; starts to make room where not."""
        limit = handler.config.max_contexts
        if not limit:
            return True
        ours = {c.name for c in self if c.handler is handler}
        if len(ours | set(handler.context_wrappers)) < limit:
            return True
        self._close_oldest(handler)
        return False

    def _trim(self, handler: Any) -> None:
        ours = [c for c in self if c.handler is handler]
        limit = handler.config.max_contexts or IDLE_CONTEXTS
        idle = [c for c in ours if not c.is_busy and not c.closing]
        if len(ours) > limit and idle:
            self._close_oldest(handler)

    def _close_oldest(self, handler: Any) -> None:
        for context in self:
            if context.handler is handler and not context.is_busy and not context.closing:
                self._start_to_close(context)
                return

    async def _keep_free(self) -> None:
        """Make room for requests without a session, which wait inside the handler."""
        stuck: set[int] = set()
        while True:
            await asyncio.sleep(PATROL)
            now: set[int] = set()
            for handler in {id(c.handler): c.handler for c in self}.values():
                full = getattr(handler, "context_semaphore", None)
                if full is not None and full.locked() and handler.context_launch_lock.locked():
                    now.add(id(handler))
                    if id(handler) in stuck:
                        self._close_oldest(handler)
            stuck = now

    # -- closing -----------------------------------------------------------------------------------

    async def _close_when_free(self, context: Context) -> None:
        until = self._clock() + PAGE_PATIENCE
        while context.users or context.opening or (context.is_busy and self._clock() < until):
            await self._sleep(LOOK)
            if not context.is_unwanted:
                break
        context.leaving = False
        if context.is_unwanted:
            self._start_to_close(context)

    def _start_to_close(self, context: Context) -> None:
        if not context.closing:
            context.closing = True  # at once: nobody may claim it any more
            self.spawn(self._close(context))

    async def _close(self, context: Context) -> None:
        key = (id(context.handler), context.session.id)
        browser_context = context.browser_context
        try:
            if browser_context is not None:
                await browser_context.close()
                self.count("contexts/closed")
        except Exception as error:  # noqa: BLE001 - Playwright's own; the browser may be gone
            logger.debug("Closing browser context %s: %s", context.name, error)
        finally:
            if self._known.get(key) is context:
                del self._known[key]
            self._wake()

    # -- waiting -----------------------------------------------------------------------------------

    def _touch(self, key: tuple[int, str], context: Context) -> None:
        self._known[key] = self._known.pop(key, context)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _sleep(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def _complain(self, handler: Any) -> None:
        held = sum(1 for c in self if c.handler is handler and not c.users and c.is_busy)
        if held >= (handler.config.max_contexts or 0) and not self._complained:
            self._complained = True
            logger.warning(
                "All %d browser contexts (PLAYWRIGHT_MAX_CONTEXTS) are held by pages that callbacks"
                " have not closed: requests wait for `await page.close()`",
                held,
            )


async def _close_page(page: Any) -> None:
    with suppress(Exception):  # the browser may be gone
        await page.close()
