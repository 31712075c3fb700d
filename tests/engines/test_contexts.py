"""Contexts are opened when needed, closed when idle, and never too many; with a handler of straw."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from scrapy import Request

from scrapy_session_filter.engines.contexts import Contexts
from scrapy_session_filter.session import Session, State, new_session_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from scrapy_session_filter.engines.contexts import Context


class StrawContext:
    """A browser context that takes a moment to close."""

    def __init__(self, handler: StrawHandler, name: str) -> None:
        self.handler = handler
        self.name = name
        self.pages: list[Any] = []

    async def close(self) -> None:
        await asyncio.sleep(0.01)
        del self.handler.context_wrappers[self.name]
        self.handler.context_semaphore.release()


class StrawPage:
    """A page."""

    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed

    async def close(self) -> None:
        self.closed = True


class StrawHandler:
    """What `Contexts` uses of scrapy-playwright's handler."""

    def __init__(self, most: int) -> None:
        self.config = SimpleNamespace(max_contexts=most)
        self.context_wrappers: dict[str, Any] = {}
        self.context_semaphore = asyncio.Semaphore(most)
        self.context_launch_lock = asyncio.Lock()
        self.fails = False

    async def _create_browser_context(self, name: str, context_kwargs: dict[str, Any]) -> None:
        await self.context_semaphore.acquire()
        await asyncio.sleep(0.01)
        if self.fails:
            self.context_semaphore.release()
            msg = "no browser"
            raise RuntimeError(msg)
        self.context_wrappers[name] = SimpleNamespace(context=StrawContext(self, name))


class Scene:
    """Contexts of one handler with room for two."""

    def __init__(self) -> None:
        self.counts: list[str] = []
        self.contexts = Contexts(self.counts.append, time.monotonic)
        self.handler = StrawHandler(2)

    async def claim(
        self, session: Session, request: Request, patience: float = 0.3
    ) -> Context | None:
        return await asyncio.wait_for(
            self.contexts.claim(
                self.handler, session, request, patience=patience, kwargs=lambda: ({}, {})
            ),
            5,
        )

    @property
    def open(self) -> set[str]:
        """Ids of the sessions whose contexts are open."""
        return {name.partition(".")[0] for name in self.handler.context_wrappers}


def session() -> Session:
    return Session(new_session_id(), "shop.example", None, {}, 0.0, 0.0)


def request(number: int = 0) -> Request:
    return Request(f"http://shop.example/{number}")


def played(scene: Callable[[Scene], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test out of a coroutine."""

    def play() -> None:
        async def run() -> None:
            setting = Scene()
            await scene(setting)
            await setting.contexts.close()
            assert not setting.handler.context_wrappers
            assert setting.counts.count("contexts/opened") == setting.counts.count(
                "contexts/closed"
            )

        asyncio.run(run())

    play.__doc__ = scene.__doc__
    play.__name__ = scene.__name__
    return play


@played
async def test_the_longest_idle_makes_room(scene: Scene) -> None:
    """The third session gets the place of the one that was used longest ago."""
    sessions = [session(), session(), session()]
    for one in sessions[:2]:
        use = request()
        context = await scene.claim(one, use)
        assert context is not None
        scene.contexts.release(context, use)
    again = request()
    context = await scene.claim(sessions[0], again)
    assert context is not None
    scene.contexts.release(context, again)
    assert await scene.claim(sessions[2], request()) is not None
    assert scene.open == {sessions[0].id, sessions[2].id}


@played
async def test_no_room(scene: Scene) -> None:
    """Where all contexts are in use nobody gets another one, and no semaphore is waited for."""
    uses = [(session(), request()) for _ in range(2)]
    held = [await scene.claim(*use) for use in uses]
    assert await scene.claim(session(), request()) is None
    waiting = asyncio.ensure_future(scene.claim(session(), request(), patience=3))
    await asyncio.sleep(0.05)
    assert held[0] is not None
    scene.contexts.release(held[0], uses[0][1])
    assert await waiting is not None


@played
async def test_a_context_on_its_way_out_is_not_handed_out(scene: Scene) -> None:
    """A session whose idle context is being closed for another one gets a new context."""
    first, second, third = session(), session(), session()
    uses = [request(n) for n in range(4)]
    for one, use in ((first, uses[0]), (second, uses[1])):
        context = await scene.claim(one, use)
        assert context is not None
        scene.contexts.release(context, use)
    both = await asyncio.gather(
        scene.claim(third, uses[2], patience=3), scene.claim(first, uses[3], patience=3)
    )
    for context, owner in zip(both, (third, first), strict=True):
        assert context is not None
        assert context.session is owner
        assert context.browser_context is not None
        assert not context.closing


@played
async def test_one_context_for_many_requests(scene: Scene) -> None:
    """Requests of a session that come at once share the context that the first one opens."""
    one = session()
    uses = [request(n) for n in range(5)]
    contexts = await asyncio.gather(*(scene.claim(one, use) for use in uses))
    assert len({id(context) for context in contexts}) == 1
    assert scene.counts == ["contexts/opened"]


@played
async def test_a_retired_session(scene: Scene) -> None:
    """Its context closes when its last request has ended, and its callback's page is closed."""
    one, use, page = session(), request(), StrawPage()
    context = await scene.claim(one, use)
    assert context is not None
    context.browser_context.pages.append(page)
    one.in_flight, one.state = 1, State.RETIRED
    scene.contexts.dismiss(one)
    await asyncio.sleep(0.05)
    assert scene.open
    scene.contexts.release(context, use, page)
    one.in_flight = 0
    await asyncio.sleep(0.3)
    assert scene.open
    await page.close()
    await asyncio.sleep(0.4)
    assert not scene.open


@played
async def test_a_rest_that_ends(scene: Scene) -> None:
    """A session that is live again before its context was free keeps it."""
    one, use = session(), request()
    context = await scene.claim(one, use)
    assert context is not None
    one.in_flight, one.state = 1, State.RESTING
    scene.contexts.dismiss(one)
    await asyncio.sleep(0.05)
    one.state = State.LIVE
    scene.contexts.release(context, use)
    await asyncio.sleep(0.3)
    assert scene.open == {one.id}


@played
async def test_pages_that_a_site_opened_are_closed(scene: Scene) -> None:
    """Nobody else would close them, and their context would never be idle."""
    one, use, popup = session(), request(), StrawPage()
    context = await scene.claim(one, use)
    assert context is not None
    context.browser_context.pages.append(popup)
    scene.contexts.release(context, use)
    await asyncio.sleep(0.05)
    assert popup.closed


@played
async def test_a_context_that_cannot_be_opened(scene: Scene) -> None:
    """The error reaches the request, and the room is free again."""
    scene.handler.fails = True
    for _ in range(3):
        with pytest.raises(RuntimeError, match="no browser"):
            await scene.claim(session(), request())
    scene.handler.fails = False
    assert await scene.claim(session(), request()) is not None
