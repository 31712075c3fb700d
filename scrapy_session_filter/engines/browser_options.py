"""How the browser contexts of a session are opened: its identity, and what the project chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy_session_filter.components import CONTEXT_SETTING, check_context
from scrapy_session_filter.engines.browser_state import keep_storage, storage_state
from scrapy_session_filter.engines.fitting import first_language
from scrapy_session_filter.hook_errors import HookErrors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scrapy_session_filter.engines.browser_state import Row
    from scrapy_session_filter.session import Session

_ENGINE = "playwright"  # our part of ``session.engine``
_CONTEXT, _ORIGINS = "context", "origins"


class ContextOptions:
    """Arguments of `Browser.new_context` for sessions.

    ``chosen`` is the value of SESSION_FILTER_BROWSER_CONTEXT: what a function says of a session is
    saved with it. ``count`` hears of its errors.
    """

    def __init__(
        self, chosen: Row | Callable[[Session], object], count: Callable[[str], None]
    ) -> None:
        self._chosen = chosen
        self._errors = HookErrors(count)

    def chosen(self, session: Session) -> Row:
        """Return what the project wants for a session; its function is asked once."""
        if not callable(self._chosen):
            return self._chosen
        mine = _kept(session)
        if not isinstance(mine.get(_CONTEXT), dict):
            mine = {**mine, _CONTEXT: self._ask(self._chosen, session)}
            _keep(session, mine)
        return dict(mine[_CONTEXT])

    def make(self, session: Session, own: Row, cookies: Iterable[Row]) -> Row:
        """Return the arguments for a session's next context; ``own`` are the request's."""
        kwargs: Row = {**self.chosen(session), **own}
        named = {name.lower(): value for name, value in session.headers.items()}
        if "user-agent" in named:
            kwargs["user_agent"] = named["user-agent"]
        if languages := named.get("accept-language"):
            kwargs.setdefault("locale", first_language(languages))
        if (proxy := proxy_of(session)) is not None:
            kwargs["proxy"] = proxy
        kwargs["storage_state"] = storage_state(cookies, _kept(session).get(_ORIGINS))
        return kwargs

    def keep_storage(self, session: Session, found: object) -> None:
        """Keep what a page had in local storage."""
        mine = _kept(session)
        origins = mine.get(_ORIGINS)
        kept = keep_storage(origins if isinstance(origins, dict) else {}, found)
        if kept != (origins or {}):
            _keep(session, {**mine, _ORIGINS: kept})

    def _ask(self, function: Callable[[Session], object], session: Session) -> Row:
        try:
            return check_context(function(session))
        except Exception as error:  # noqa: BLE001 - the project's function may raise anything
            self._errors.note(f"{CONTEXT_SETTING} failed", error)
            return {}


def proxy_of(session: Session) -> dict[str, str] | None:
    """Return the session's proxy as Playwright takes it."""
    endpoint = session.endpoint
    if endpoint is None:
        return None
    proxy = {"server": endpoint.server}
    credentials = endpoint.credentials(session.id)
    if credentials is not None:
        proxy["username"], proxy["password"] = credentials
    return proxy


def _kept(session: Session) -> dict[str, Any]:
    mine = (session.engine or {}).get(_ENGINE)
    return mine if isinstance(mine, dict) else {}


def _keep(session: Session, mine: Row) -> None:
    session.engine = {**(session.engine or {}), _ENGINE: mine}
