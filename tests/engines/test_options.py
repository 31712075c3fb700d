"""How the contexts of a session are opened, and which options the settings take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scrapy.settings import Settings

from scrapy_session_filter.components import OWNED
from scrapy_session_filter.engines import EngineBinding, Engines, HttpBinding
from scrapy_session_filter.engines.browser_options import ContextOptions
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.proxies import proxy_source
from scrapy_session_filter.session import Session, new_session_id
from scrapy_session_filter.settings import SessionFilterSettings


def session(proxy: str = "http://me-{session}:p%40ss@gateway.example:8000") -> Session:
    source = proxy_source(proxy, None, refresh=300.0)
    source.check()
    (endpoint,) = source.endpoints()
    headers = {"User-Agent": "Browser/1", "Accept-Language": "de-AT,de;q=0.9"}
    return Session(new_session_id(), "shop.example", endpoint, headers, 0.0, 0.0)


def options(chosen: Any) -> tuple[ContextOptions, list[str]]:
    counts: list[str] = []
    return ContextOptions(chosen, counts.append), counts


def test_identity_of_a_context() -> None:
    """Proxy with decoded credentials, User-Agent, language and cookies are the session's."""
    one = session()
    made = options({"timezone_id": "Europe/Vienna"})[0].make(one, {"viewport": None}, [])
    assert made == {
        "timezone_id": "Europe/Vienna",
        "viewport": None,
        "user_agent": "Browser/1",
        "locale": "de-AT",
        "proxy": {
            "server": "http://gateway.example:8000",
            "username": f"me-{one.id}",
            "password": "p@ss",
        },
        "storage_state": {"cookies": [], "origins": []},
    }


def test_a_function_is_asked_once_for_each_session() -> None:
    """What it says is saved with the session, and said again after a restart."""
    asked: list[Session] = []

    def choose(one: Session) -> dict[str, str]:
        asked.append(one)
        return {"locale": f"l{len(asked)}"}

    chosen = options(choose)[0]
    one, other = session(), session()
    assert chosen.chosen(one) == chosen.chosen(one) == {"locale": "l1"}
    assert chosen.chosen(other) == {"locale": "l2"}
    one.engine = json.loads(json.dumps(one.engine))
    assert options(choose)[0].make(one, {}, [])["locale"] == "l1"
    assert len(asked) == 2


@pytest.mark.parametrize(
    "answer", [None, {"proxy": {}}, {"locale": object()}, ValueError("no locale")]
)
def test_a_function_that_fails(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """The crawl goes on without options; it is counted, and said once."""

    def choose(one: Session) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    chosen, counts = options(choose)
    assert chosen.chosen(session()) == chosen.chosen(session()) == {}
    assert counts == ["hook_errors"] * 2
    assert len(caplog.records) == 1


def read(**settings: Any) -> SessionFilterSettings:
    given = {"SESSION_FILTER_PROXY": "direct", "TWISTED_REACTOR_ENABLED": False, **settings}
    return SessionFilterSettings.from_settings(Settings(given), crawling=False)


def test_browser_context_setting() -> None:
    """A dict, its JSON on the command line, a function, or its import path."""
    name = "SESSION_FILTER_BROWSER_CONTEXT"
    assert read().browser_context == {}
    assert read(**{name: {"locale": "fr"}}).browser_context == {"locale": "fr"}
    assert read(**{name: '{"locale": "fr"}'}).browser_context == {"locale": "fr"}
    path = "tests.browser.identities.by_chance"
    assert read(**{name: path}).browser_context.__name__ == "by_chance"


@pytest.mark.parametrize(
    "value", [3, "fr", "tests.nowhere.at_all", {"locale": object()}, *({k: ""} for k in OWNED)]
)
def test_bad_browser_context(value: object) -> None:
    """The error names the setting and what would be right."""
    with pytest.raises(ConfigurationError, match=r"SESSION_FILTER_BROWSER_CONTEXT.*new_context"):
        read(SESSION_FILTER_BROWSER_CONTEXT=value)


class Sole(HttpBinding):
    """A binding of somebody else's."""

    handlers = ("nowhere.Handler",)


@pytest.mark.parametrize("value", ["nowhere.Binding", int, EngineBinding.__name__])
def test_bad_engines(value: object) -> None:
    """Only subclasses of EngineBinding are bindings."""

    class Crawl:
        settings = Settings()

    with pytest.raises(ConfigurationError, match="EngineBinding"):
        Engines(Crawl(), read(SESSION_FILTER_ENGINES={value: 1}))  # type: ignore[arg-type]


def test_engines_are_made_where_a_handler_asks_for_them() -> None:
    """A binding whose handler nobody uses is not made."""

    class Crawl:
        settings = Settings()

    engines = Engines(Crawl(), read(SESSION_FILTER_ENGINES={Sole: 1}))  # type: ignore[arg-type]
    assert [type(binding) for binding in engines.all] == [HttpBinding]
