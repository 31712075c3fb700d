"""What a download engine must be able to do with a session.

A binding of your own is a subclass, named in SESSION_FILTER_ENGINES. The hooks are called in this
order for each attempt at a request::

    refusal        may it have a session at all?
    adopt          650, the session is used for the first time in this run (by any engine)
    put_on         650, a session was picked
    prepare        995, the last thing before the download (only where `awaits`)
    carries        995, does it really carry the session?
    collect        995, an answer or an error came (only where `awaits`)
    scrub          995, an answer or an error came
    renew          650, the same page is going to be asked for again
    take_off       650, the request is going to have another session, or none

and for a session: `remember` before it is saved, `forget` when it is retired and idle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler
    from scrapy.http import Response
    from typing_extensions import Self

    from scrapy_session_filter.session import Session
    from scrapy_session_filter.settings import SessionFilterSettings


PARTIAL = "session_filter_partial"
"""Flag of a response that is what there was when something failed: if it is a block, that is why."""


class EngineBinding(ABC):
    """Puts a session on the requests of one download engine, and takes it off again."""

    handlers: ClassVar[tuple[str, ...]] = ()
    """Import paths of the download handlers (their subclasses, too) whose requests it can serve."""

    awaits: ClassVar[bool] = False
    """Whether `prepare` and `collect` have something to do; else nobody calls them."""

    @classmethod
    @abstractmethod
    def from_crawler(cls, crawler: Crawler, settings: SessionFilterSettings) -> Self:
        """Make the binding for a crawl, before there is an engine; raise `ConfigurationError`.

        Called only if one of the crawl's download handlers is in `handlers`.
        """

    async def open(self) -> None:
        """Get ready, before the first request; raise `ConfigurationError` where that fails."""

    async def close(self) -> None:
        """Let go of everything: the spider closes and nothing is in flight."""

    def serves(self, request: Request) -> bool:
        """Return whether the handler, one of `handlers`, will send this request by this engine."""
        return True

    def refusal(self, request: Request) -> str | None:
        """Return why the request, as it came, must not have a session; else None."""
        return None

    def adopt(self, session: Session) -> None:
        """Meet a session, new or restored, before its first request in this run, by any engine.

        The time to make ``session.headers`` fit the engine, or to choose what the session keeps in
        ``session.engine``.
        """

    @abstractmethod
    def put_on(self, request: Request, session: Session) -> dict[str, Any]:
        """Make the request this session's; return marks (plain values) that `take_off` needs."""

    async def prepare(self, request: Request, session: Session) -> bool:
        """Do what takes time before the download; False: not now, send it back to the scheduler."""
        return True

    @abstractmethod
    def carries(self, request: Request, session: Session) -> bool:
        """Return whether the request, as it is about to leave, really carries the session."""

    async def collect(
        self, request: Request, session: Session, result: Response | Exception
    ) -> Response | None:
        """Take over what the download left behind; return an answer to use instead of ``result``.

        One with the flag `PARTIAL`, instead of an exception, is used only if it is a block.

        Called also where `prepare` failed, or was not called because a cache had the answer.
        """
        return None

    @abstractmethod
    def scrub(self, request: Request) -> None:
        """Remove credentials after an attempt: requests are kept on disk by queues and caches."""

    def renew(self, request: Request) -> None:
        """Remove results of an attempt that the next one must not find."""

    @abstractmethod
    def take_off(self, request: Request, marks: dict[str, Any]) -> None:
        """Undo `put_on`, so that another session, or none, can take the request."""

    def remember(self, session: Session) -> None:
        """Bring ``session.cookies`` and ``session.engine`` up to date before it is saved.

        The time, too, to give back what a session that rests, or has nothing in flight, does not
        need.
        """

    def forget(self, session: Session) -> None:
        """Drop everything held for a retired session whose last request has ended."""
