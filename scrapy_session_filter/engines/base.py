"""What a download engine must be able to do with a session."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrapy import Request

    from scrapy_session_filter.session import Session


class EngineBinding(ABC):
    """Puts a session on the requests of one download engine, and takes it off again."""

    @abstractmethod
    def put_on(self, request: Request, session: Session) -> dict[str, Any]:
        """Make the request this session's; return marks (plain values) that `take_off` needs."""

    @abstractmethod
    def carries(self, request: Request, session: Session) -> bool:
        """Return whether the request, as it is about to leave, really carries the session."""

    @abstractmethod
    def scrub(self, request: Request) -> None:
        """Remove credentials after an attempt: requests are kept on disk by queues and caches."""

    @abstractmethod
    def take_off(self, request: Request, marks: dict[str, Any]) -> None:
        """Undo `put_on`, so that another session, or none, can take the request."""

    @abstractmethod
    def remember(self, session: Session) -> None:
        """Bring ``session.cookies`` (and ``session.engine``) up to date before it is saved.

        The time, too, to give back what a session with nothing in flight does not need.
        """

    @abstractmethod
    def forget(self, session: Session) -> None:
        """Drop everything held for a retired session whose last request has ended."""
