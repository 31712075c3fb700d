"""Which binding serves a request: by its scheme's download handler, and by the request itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scrapy.utils.httpobj import urlparse_cached
from scrapy.utils.python import global_object_name

from scrapy_session_filter.engines.base import EngineBinding
from scrapy_session_filter.engines.http import HttpBinding
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.loading import load
from scrapy_session_filter.surroundings import SCHEMES, download_handlers, load_quietly

if TYPE_CHECKING:
    from scrapy import Request
    from scrapy.crawler import Crawler

    from scrapy_session_filter.session import Session
    from scrapy_session_filter.settings import SessionFilterSettings

BUILT_IN: dict[Any, float] = {
    "scrapy_session_filter.engines.playwright.PlaywrightBinding": 100,
    "scrapy_session_filter.engines.impersonate.ImpersonateBinding": 200,
    "scrapy_session_filter.engines.http.HttpBinding": 1000,
}
"""Bindings and their places; the lowest that serves a request gets it."""

SETTING = "SESSION_FILTER_ENGINES"
_OF_A_BROWSER = "playwright"  # meta that plain handlers ignore


class Engines:
    """All bindings of a crawl: each request goes to the binding of its engine."""

    def __init__(self, crawler: Crawler, settings: SessionFilterSettings) -> None:
        """Make the bindings that the crawl's download handlers ask for."""
        found = download_handlers(crawler.settings).items()
        self._handlers = {scheme: cls for scheme, path in found if (cls := load_quietly(path))}
        classes = _in_order(settings.engines)
        made: dict[type[EngineBinding], EngineBinding] = {}
        self._of_scheme: dict[str, list[EngineBinding]] = {}
        for scheme, handler in self._handlers.items():
            fitting = [cls for cls in classes if _is_for(cls, handler)]
            for cls in fitting:
                if cls not in made:
                    made[cls] = cls.from_crawler(crawler, settings)
            self._of_scheme[scheme] = [made[cls] for cls in fitting]
        self._names = {b: global_object_name(type(b)) for b in made.values()}
        self._by_name = {name: binding for binding, name in self._names.items()}
        self.all = tuple(made.values())
        #: where there is no choice, none is made for each request
        self._only = self.all[0] if self._leaves_no_choice() else None
        self._adopting = [b for b in self.all if type(b).adopt is not EngineBinding.adopt]
        self._adopted: set[str] = set()

    def of(self, request: Request) -> EngineBinding | None:
        """Return the binding that serves a request; None: nobody knows its download handler."""
        if self._only is not None:
            return self._only
        for binding in self._of_scheme.get(urlparse_cached(request).scheme, ()):
            if binding.serves(request):
                return binding
        return None

    def _leaves_no_choice(self) -> bool:
        return (
            len(self.all) == 1
            and all(self._of_scheme.get(scheme) for scheme in SCHEMES)
            and type(self.all[0]).serves is EngineBinding.serves
        )

    async def open(self) -> None:
        """Get all bindings ready."""
        for binding in self.all:
            await binding.open()

    async def close(self) -> None:
        """Close all bindings."""
        for binding in self.all:
            await binding.close()

    def refusal(self, request: Request) -> str | None:
        """Return why a request must not go out with a session, or cannot."""
        binding = self.of(request)
        if request.meta.get(_OF_A_BROWSER) and (
            binding is None or isinstance(binding, HttpBinding)
        ):
            scheme = urlparse_cached(request).scheme
            return (
                "scrapy-playwright ignores the session's proxy, or does not get the request at all:"
                f" put its handler into DOWNLOAD_HANDLERS[{scheme!r}], and leave its binding in"
                f" {SETTING}"
            )
        if binding is None:
            handler = self._handlers.get(urlparse_cached(request).scheme)
            name = None if handler is None else global_object_name(handler)
            return (
                f"no engine binding knows its download handler {name}, which may ignore the"
                f" session's proxy. If it uses meta 'proxy' and the headers, name a subclass of"
                f" scrapy_session_filter.engines.HttpBinding with handlers = ({name!r},) in {SETTING}"
            )
        return binding.refusal(request)

    def adopt(self, session: Session) -> None:
        """Introduce a session to all engines."""
        self._adopted.add(session.id)
        for binding in self._adopting:
            binding.adopt(session)

    def put_on(self, request: Request, session: Session) -> dict[str, Any]:
        """Have the request's engine put the session on it, and note which one it was."""
        binding = self.of(request)
        if binding is None:  # refused before
            msg = f"{request} has no engine binding"
            raise LookupError(msg)
        if self._adopting and session.id not in self._adopted:
            self.adopt(session)
        marks = binding.put_on(request, session)
        marks["engine"] = self._names[binding]
        return marks

    def renew(self, request: Request) -> None:
        """Have the request's engine remove its results."""
        binding = self.of(request)
        if binding is not None:
            binding.renew(request)

    def take_off(self, request: Request, marks: dict[str, Any]) -> None:
        """Have the engine that put a session on the request undo that, whichever serves it now."""
        binding = self._by_name.get(marks.get("engine", "")) or self.of(request)
        if binding is not None:
            binding.take_off(request, marks)

    def remember(self, session: Session) -> None:
        """Have all engines bring the session up to date."""
        for binding in self.all:
            binding.remember(session)

    def forget(self, session: Session) -> None:
        """Have all engines drop what they hold for a session."""
        self._adopted.discard(session.id)
        for binding in self.all:
            binding.forget(session)


def _in_order(changes: dict[Any, float | None]) -> list[type[EngineBinding]]:
    """Return the bindings in order: the built-in ones, changed as the setting says."""
    expected = "import paths of subclasses of scrapy_session_filter.engines.EngineBinding"
    places: dict[type[EngineBinding], float] = {
        load(path, setting=SETTING, expected=expected): place for path, place in BUILT_IN.items()
    }
    for key, place in changes.items():
        cls = load(key, setting=SETTING, expected=expected) if isinstance(key, str) else key
        if not isinstance(cls, type) or not issubclass(cls, EngineBinding):
            raise ConfigurationError(SETTING, key, expected)
        places.pop(cls, None)
        if place is not None:
            places[cls] = place
    return sorted(places, key=lambda cls: places[cls])


def _is_for(cls: type[EngineBinding], handler: Any) -> bool:
    paths = {global_object_name(base) for base in getattr(handler, "__mro__", (handler,))}
    return not paths.isdisjoint(cls.handlers)
