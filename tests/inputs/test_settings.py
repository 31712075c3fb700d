"""Every setting, from a file or a command line; the numbers are those of the catalogue of bad input."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scrapy import Request
from scrapy.downloadermiddlewares.cookies import CookiesMiddleware
from scrapy.downloadermiddlewares.httpproxy import HttpProxyMiddleware
from scrapy.downloadermiddlewares.redirect import RedirectMiddleware
from scrapy.http import HtmlResponse
from scrapy.pqueues import DownloaderAwarePriorityQueue, ScrapyPriorityQueue
from scrapy.settings import BaseSettings, Settings
from scrapy.utils.project import data_path
from tldextract import TLDExtract

from scrapy_session_filter import site_keys
from scrapy_session_filter.addon import Addon
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.identities import NoIdentity
from scrapy_session_filter.loading import accepts
from scrapy_session_filter.policies import POLICIES, Decision, Policy
from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.classic import ClassicPolicy
from scrapy_session_filter.proxies import FileSource, ListSource
from scrapy_session_filter.settings import DEFAULT_POLICY, FIELDS, SessionFilterSettings
from scrapy_session_filter.verdict import Kind

if TYPE_CHECKING:
    from scrapy_session_filter.policies import Ask

GATEWAY = "http://user-{session}:topsecret@gw.example:8000"
HANDLERS = "scrapy.core.downloader.handlers."


def settings_of(_with_addon: bool = False, **values: Any) -> Settings:
    """Settings of a project; those of the plugin without their prefix."""
    ours = {info.name for info in FIELDS}
    settings = Settings({"SESSION_FILTER_PROXY": GATEWAY, "SESSION_FILTER_IDENTITY": None})
    for name, value in values.items():
        prefixed = f"SESSION_FILTER_{name}"
        settings.set(prefixed if prefixed in ours else name, value)
    if _with_addon:
        Addon().update_settings(settings)
    return settings


def read(**ours: Any) -> SessionFilterSettings:
    return SessionFilterSettings.from_settings(settings_of(**ours))


def refusal(settings: BaseSettings) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        SessionFilterSettings.from_settings(settings).make_source()
    assert "topsecret" not in str(caught.value)
    return caught.value


# --- defaults and the table ----------------------------------------------------------------------


def test_defaults_are_those_of_the_manual() -> None:
    """With nothing but a proxy set, everything has its documented value."""
    settings = SessionFilterSettings.from_settings(Settings({"SESSION_FILTER_PROXY": GATEWAY}))
    assert settings.policy is AdaptivePolicy
    assert settings.max_sessions == 0
    assert settings.scheduler_priority_queue is DownloaderAwarePriorityQueue
    assert settings.identities.draw(Random())["User-Agent"].startswith("Mozilla/")
    plain = {
        "enabled": True, "proxies_refresh": 300.0, "max_age": 86400.0, "max_idle": 0.0, "max_uses": 0,
        "max_errors": 1, "concurrency": 0, "delay": 0.0, "max_sites": 1000, "block_statuses": None,
        "block_markers": (), "retry_times": 10, "give_up": "drop", "wait_timeout": 2.0,
        "first_timeout": 30.0, "exhausted_timeout": 900.0, "store": "sqlite:", "save_interval": 2.0,
        "dry_run": False, "store_timeout": 300.0,
    }  # fmt: skip
    assert {name: getattr(settings, name) for name in plain} == plain


def test_table_names_each_setting_once_with_its_meaning() -> None:
    """README and code cannot drift apart: the table is made of the fields themselves."""
    names = [info.name for info in FIELDS]
    assert len(names) == len(set(names))
    assert all(name.startswith("SESSION_FILTER_") for name in names)
    assert all(info.meaning and "\n" not in info.meaning for info in FIELDS)
    assert {info.name: info.default for info in FIELDS}["SESSION_FILTER_POLICY"] == DEFAULT_POLICY


def test_every_default_can_be_set_explicitly() -> None:
    """Writing the defaults out changes nothing."""
    explicit = {info.name: info.default for info in FIELDS if info.default is not None}
    settings = SessionFilterSettings.from_settings(
        Settings({"SESSION_FILTER_PROXY": GATEWAY, **explicit})
    )
    assert settings.limits == read().limits
    assert settings.detectors == read().detectors


def test_case_21_no_password_shows_in_the_settings_object() -> None:
    """Its repr holds neither the proxies nor the address of a store."""
    settings = read(STORE="redis://:topsecret@h/0")
    assert "topsecret" not in repr(settings)
    assert "topsecret" not in repr(settings.source)
    assert settings.store == "redis://:topsecret@h/0"


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("MAX_USES", "100", "max_uses", 100),
        ("MAX_USES", " 7 ", "max_uses", 7),
        ("DELAY", "2.5", "delay", 2.5),
        ("DELAY", 2, "delay", 2.0),
        ("DELAY", "1e1", "delay", 10.0),
        ("MAX_AGE", "3600", "max_age", 3600.0),
        ("DRY_RUN", "true", "dry_run", True),
        ("DRY_RUN", "False", "dry_run", False),
        ("DRY_RUN", "1", "dry_run", True),
        ("DRY_RUN", 0, "dry_run", False),
        ("GIVE_UP", "DELIVER", "give_up", "deliver"),
        ("BLOCK_STATUSES", [403, "494-499", ">=500"], "block_statuses", (403, "494-499", ">=500")),
        ("BLOCK_STATUSES", '[403, "494-499"]', "block_statuses", (403, "494-499")),
        (
            "BLOCK_STATUSES",
            "403,429, 494-499,>=500",
            "block_statuses",
            (403, 429, "494-499", ">=500"),
        ),
        ("BLOCK_STATUSES", "", "block_statuses", ()),
        ("BLOCK_STATUSES", (), "block_statuses", ()),
        (
            "BLOCK_MARKERS",
            [b"Access denied", "für"],
            "block_markers",
            (b"Access denied", "für".encode()),
        ),
        ("BLOCK_MARKERS", "a,b", "block_markers", (b"a", b"b")),
        ("BLOCK_MARKERS", '["a,b"]', "block_markers", (b"a,b",)),
        ("MAX_SESSIONS", 7, "max_sessions", 7),
        ("MAX_SESSIONS", 0, "max_sessions", 0),
    ],
)
def test_values_may_come_as_objects_or_as_text(
    name: str, value: Any, field: str, expected: Any
) -> None:
    """What ``scrapy crawl -s`` gives as text means the same as in a settings file."""
    found = getattr(read(**{name: value}), field)
    assert (found, type(found)) == (expected, type(expected))


UA = {"User-Agent": "Mozilla/5.0"}
INTS = ["MAX_SESSIONS", "MAX_USES", "MAX_ERRORS", "CONCURRENCY", "MAX_SITES", "RETRY_TIMES"]
SECONDS = ["PROXIES_REFRESH", "MAX_AGE", "MAX_IDLE", "DELAY", "WAIT_TIMEOUT", "FIRST_TIMEOUT"]
SECONDS += ["EXHAUSTED_TIMEOUT", "SAVE_INTERVAL", "STORE_TIMEOUT"]
ZERO_IS_NOTHING = ["MAX_ERRORS", "MAX_SITES", "PROXIES_REFRESH", "WAIT_TIMEOUT", "SAVE_INTERVAL"]


@pytest.mark.parametrize(
    ("case", "names", "values"),
    [
        (4, INTS, ["ten", "", [], {}, b"1", 1.5, 10.0, "1.5", "0x10", "1_0_", object()]),
        (4, SECONDS, ["ten", "", [], {}, b"1", object()]),
        (4, ["ENABLED", "DRY_RUN", "LEARN_NORMAL"], ["yes", "", 2, 1.0, [], "TRUE!"]),
        (4, ["GIVE_UP"], ["raise", "", 1, []]),
        (4, ["STORE"], ["postgres://x", "sqlite", "", "/tmp/x.db", 5, Path("x")]),
        (
            4,
            ["BLOCK_STATUSES"],
            [403, {403: 1}, [True], [99], [1000], ["40x"], ["500-400"], [">400"]],
        ),
        (4, ["BLOCK_STATUSES"], [[None], [403.0], "403;404", "[403", ["٤٠٣"], [b"403"], "[[403]]"]),
        (4, ["BLOCK_MARKERS"], [5, b"x", [""], [b""], ["  "], [5], {"a": 1}, "a,,b", "["]),
        (
            4,
            ["DETECTORS"],
            [[], "x", "[]", 5, {"a.b": "1"}, {"a.b": True}, {5: 1}, {"a.b": math.nan}],
        ),
        (
            4,
            ["EXPECT"],
            [[], "x", "[]", 5, {"(": {"css": "a"}}, {"x": {}}, {"x": {"cs": "a"}}, {"x": 1}],
        ),
        (
            4,
            ["EXPECT"],
            [
                {"x": {"css": "a["}},
                {"x": {"min_size": -1}},
                {"x": {"bytes": ""}},
                {5: {"css": "a"}},
            ],
        ),
        (4, ["RULES"], [[], "x", "[]", 5, {"a": 1}, {"a": {}}, {"no-such-rule": None}]),
        (5, INTS + SECONDS, [-1, "-1", -(10**30)]),
        (5, ZERO_IS_NOTHING, [0, "0", 0.0]),
        (6, INTS + SECONDS, [True, False, math.nan, math.inf, "nan", "inf", 10**30, "9" * 400]),
        (
            8,
            ["POLICY", "IDENTITY", "SITE"],
            ["no_such_module.x", "os.nothing", "os.path", "not-a-name", 5],
        ),
        (8, ["POLICY", "SITE", "SCHEDULER_PRIORITY_QUEUE"], ["", "x y", [], {}, "os."]),
        (8, ["SCHEDULER_PRIORITY_QUEUE"], ["os.getcwd", "no_such.Queue", 5]),
        (8, ["DETECTORS"], [{"no_such_module.x": 1}, {"os.sep": 1}, {"nodots": None}]),
        (9, ["SITE"], ["os.getcwd", "os.rename", lambda: "x", lambda a, b: "x"]),
        (9, ["IDENTITY"], ["os.getcwd", lambda: UA, lambda a, b: UA]),
        (9, ["DETECTORS"], [{"os.getcwd": 1}, {"os.rename": 1}]),
        (
            9,
            ["POLICY"],
            ["builtins.dict", Policy, "scrapy_session_filter.policies.base.Policy", object()],
        ),
    ],
)
def test_bad_value_is_refused_with_its_setting(
    case: int, names: list[str], values: list[Any]
) -> None:
    """Each stops the crawl with an error that names the setting and says what was expected."""
    for name in names:
        for value in values:
            with pytest.raises(ConfigurationError) as caught:
                pytest.fail(f"{name} = {value!r}: {read(**{f'SESSION_FILTER_{name}': value})}")
            assert caught.value.setting == f"SESSION_FILTER_{name}", value
            assert "expected " in str(caught.value)
            assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SESSION_FILTER_POLICI", "SESSION_FILTER_POLICY"),
        ("SESSION_FILTER_MAX_SESSION", "SESSION_FILTER_MAX_SESSIONS"),
        ("SESSION_FILTER_PROXYS", "SESSION_FILTER_PROXY"),
        ("SESSION_FILTER_RETRIES", "SESSION_FILTER_RETRY_TIMES"),
    ],
)
def test_case_3_misspelt_setting_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    """A typo does not silently leave the default; its value, perhaps secret, is not shown."""
    settings = settings_of()
    settings.set(name, "http://u:topsecret@h")
    error = refusal(settings)
    assert error.setting == name
    assert nearest in str(error)


@pytest.mark.parametrize("value", [False, "False", "0", 0])
def test_case_2_switched_off_nothing_else_is_looked_at(value: Any) -> None:
    """A project may keep unfinished settings while the plugin is off."""
    settings = SessionFilterSettings.from_settings(
        Settings(
            {
                "SESSION_FILTER_ENABLED": value,
                "SESSION_FILTER_MAX_AGE": "ten",
                "SESSION_FILTER_X": 1,
            }
        )
    )
    assert settings.enabled is False
    assert settings.source is None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"SESSION_FILTER_PROXY": GATEWAY, "SESSION_FILTER_PROXIES": ["h:1"]},
        {"SESSION_FILTER_PROXY": ""},
    ],
)
def test_case_1_neither_or_both_proxy_settings_are_refused(values: dict[str, Any]) -> None:
    """There is no crawl without a decision about proxies."""
    error = refusal(Settings(values))
    assert error.setting == "SESSION_FILTER_PROXY"


def test_outside_a_crawl_no_proxies_are_needed() -> None:
    """A command reads the store's address and leaves the crawl's surroundings alone."""
    settings = SessionFilterSettings.from_settings(
        Settings({"SESSION_FILTER_STORE": "memory:", "TWISTED_REACTOR": "x"}), crawling=False
    )
    assert settings.make_store() is not None
    with pytest.raises(RuntimeError):
        settings.make_source()


# --- what settings name --------------------------------------------------------------------------


class OwnPolicy(Policy):
    def choose(self, ask: Ask) -> Decision:
        return Decision.new()


@pytest.mark.parametrize(
    "value", [*POLICIES, OwnPolicy, f"{__name__}.OwnPolicy", f"{__name__}:OwnPolicy"]
)
def test_policy_may_be_a_name_a_class_or_its_path(value: Any) -> None:
    """Only the classic one has the article's default of 100 sessions."""
    settings = read(POLICY=value)
    assert issubclass(settings.policy, Policy)
    assert settings.max_sessions == (100 if settings.policy is ClassicPolicy else 0)
    assert settings.limits.max_sessions == settings.max_sessions


def test_identity_none_leaves_scrapys_headers() -> None:
    """None is a value of this setting, not its absence."""
    assert isinstance(read(IDENTITY=None).identities, NoIdentity)


@pytest.mark.parametrize(
    ("site", "url", "key"),
    [
        ("domain", "https://www.shop.example.co.uk/a", "example.co.uk"),
        ("domain", "https://WWW.Example.COM:8443/", "example.com"),
        ("domain", "http://127.0.0.1:8000/", "127.0.0.1"),
        ("domain", "http://[2001:db8::1]/", "2001:db8::1"),
        ("domain", "http://localhost/", "localhost"),
        ("domain", "http://co.uk/", "co.uk"),
        ("domain", "http://shop.invalidtld/", "shop.invalidtld"),
        ("domain", "data:,x", "data"),
        ("host", "https://WWW.Example.COM:8443/", "www.example.com"),
        ("all", "https://www.example.com/", "all"),
        (lambda request: request.url[:5], "https://www.example.com/", "https"),
        (f"{__name__}.first_letter", "https://www.example.com/", "h"),
    ],
)
def test_site_key_of_a_request(site: Any, url: str, key: str) -> None:
    """The registrable domain, the host, one for all, or what the user's function says."""
    assert read(SITE=site).site_key(Request(url)) == key


def first_letter(request: Request) -> str:
    return request.url[0]


async def async_key(request: Request) -> str:
    return "x"


def test_site_function_must_be_plain() -> None:
    """An async function cannot be asked on the picking path."""
    assert refusal(settings_of(SITE=async_key)).setting == "SESSION_FILTER_SITE"


@pytest.mark.parametrize("key", [None, "", 5, "x" * 256, b"x"])
def test_site_function_that_returns_no_key_is_an_error(key: Any) -> None:
    """A key that cannot be stored is reported under the setting's name."""
    settings = read(SITE=lambda request: key)
    with pytest.raises(ConfigurationError, match="SESSION_FILTER_SITE"):
        settings.site_key(Request("http://h.example"))


def test_site_key_never_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suffix list is the one that comes with tldextract, and nothing is cached on disk."""

    def refuse(*_: object, **__: object) -> None:
        msg = "network"
        raise AssertionError(msg)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    site_keys._domain.cache_clear()
    fresh = TLDExtract(suffix_list_urls=(), cache_dir=None)
    monkeypatch.setattr(site_keys, "_extract", fresh)
    assert read(SITE="domain").site_key(Request("http://a.example.co.uk")) == "example.co.uk"


def own_detector(answer: object) -> None:
    return None


def test_detectors_are_merged_over_the_built_in() -> None:
    """None switches one off, a number moves or adds one, the order is that of the numbers."""
    built_in = read().detectors
    names = [detector.__name__ for detector in built_in]
    assert [names[0], names[1], names[-1]] == [
        "HeaderDetector",
        "RedirectDetector",
        "StatusDetector",
    ]
    changed = read(
        DETECTORS={
            "scrapy_session_filter.verdicts.detectors.RedirectDetector": None,
            f"{__name__}.own_detector": 50,
            built_in[0]: 900,
        }
    ).detectors
    assert changed == (own_detector, *built_in[2:], built_in[0])
    as_json = json.dumps({f"{__name__}.own_detector": 1})
    assert read(DETECTORS=as_json).detectors[0] is own_detector
    assert read(DETECTORS=BaseSettings({own_detector: 1})).detectors[0] is own_detector


def test_judge_works_by_the_settings() -> None:
    """Statuses, markers and detectors arrive in the judge."""
    judge = read(BLOCK_STATUSES="404", BLOCK_MARKERS=[b"no robots here"]).make_judge()
    request = Request("http://h.example")
    page = b"<html><body>no robots here</body></html>"
    for status, body in ((404, b""), (200, page)):
        response = HtmlResponse("http://h.example", status=status, body=body, request=request)
        assert judge.response(response).kind is Kind.BLOCKED


@pytest.mark.parametrize(
    "expect", [{"h\\.example": {"bytes": b"price"}}, '{"h\\\\.example": {"bytes": ["price"]}}']
)
def test_expectations_reach_the_judge(expect: Any) -> None:
    """A page that lacks what good pages hold is a block, from a file or a command line."""
    judge = read(EXPECT=expect).make_judge()
    request = Request("http://h.example")
    kinds = [
        judge.response(HtmlResponse("http://h.example", body=body, request=request)).kind
        for body in (b"<html>the price</html>", b"<html>nothing</html>")
    ]
    assert kinds == [Kind.OK, Kind.BLOCKED]


def test_rules_reach_the_judge() -> None:
    """Rules of one's own and those switched off arrive in the judge."""
    rule = {"where": "title", "literal": "Gone fishing"}
    page = HtmlResponse("http://h.example", body=b"<title>Gone fishing</title>")
    assert read(RULES={"mine": rule}).make_judge().response(page).kind is Kind.BLOCKED
    assert read(RULES='{"cf-title": null}').rules == {"cf-title": None}
    assert not read(LEARN_NORMAL=False).learn_normal


def test_queue_is_the_one_that_ours_wraps() -> None:
    """The add-on keeps the queue the project had, and it is loaded here."""
    path = "scrapy.pqueues.ScrapyPriorityQueue"
    settings = settings_of(_with_addon=True, SCHEDULER_PRIORITY_QUEUE=path)
    read_settings = SessionFilterSettings.from_settings(settings)
    assert read_settings.scheduler_priority_queue is ScrapyPriorityQueue


def test_case_14_store_lies_in_the_jobdir(tmp_path: Path) -> None:
    """With JOBDIR there, else in the project's data directory."""
    assert read(JOBDIR=str(tmp_path)).store_path == str(tmp_path / "sessions.sqlite")
    assert read().store_path == data_path("sessions.sqlite")
    assert read(STORE="memory:").make_store() is not None


def test_case_20_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose driver is not installed says what to install."""
    monkeypatch.setitem(sys.modules, "redis", None)
    for module in ("redis", "redis_link"):
        monkeypatch.delitem(sys.modules, f"scrapy_session_filter.stores.{module}", raising=False)
    settings = read(STORE="redis://:topsecret@h/0")
    with pytest.raises(ConfigurationError, match=r"scrapy-session-filter\[redis\]") as caught:
        settings.make_store()
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(("function", "fits"), [(dict, True), (len, True), (os.getcwd, False)])
def test_callable_that_hides_its_signature_is_trusted(function: Any, fits: bool) -> None:
    """Some callables written in C cannot be asked what they take."""
    assert accepts(function, object()) is fits


# --- proxies -------------------------------------------------------------------------------------


def test_sources_get_their_interval_and_are_read_by_make_source(tmp_path: Path) -> None:
    """A list of the settings file, a file, a comma list of the command line."""
    path = tmp_path / "p.txt"
    path.write_text("192.0.2.1:80\n")
    for value, kind in ((["h:1"], ListSource), ("h:1,i:2", ListSource), (str(path), FileSource)):
        settings = read(PROXY=None, PROXIES=value, PROXIES_REFRESH=3)
        source = settings.make_source()
        assert type(source) is kind
        assert len(source.endpoints()) > 0
        assert source.refresh_interval == (3.0 if kind is FileSource else 0)


def test_direct_needs_no_proxy_middleware(caplog: pytest.LogCaptureFixture) -> None:
    """Without proxies, HTTPPROXY_ENABLED may be off, and handlers may be any."""
    h2 = dict.fromkeys(("http", "https"), HANDLERS + "http2.H2DownloadHandler")
    source = read(PROXY="direct", HTTPPROXY_ENABLED=False, DOWNLOAD_HANDLERS=h2).make_source()
    assert source.direct
    assert "own address" in caplog.text


@pytest.mark.parametrize(
    ("case", "handler", "proxy", "named"),
    [
        (40, "http11.HTTP11DownloadHandler", "https://u:topsecret@h", "SESSION_FILTER_PROXY"),
        (39, "http11.HTTP11DownloadHandler", "socks5://u:topsecret@h", "SESSION_FILTER_PROXY"),
        (36, "http11.HTTP11DownloadHandler", "http://u:topsecret@[::1]:80", "SESSION_FILTER_PROXY"),
        (39, "_aiohttp.AiohttpDownloadHandler", "socks5://u:topsecret@h", "SESSION_FILTER_PROXY"),
        (28, "_aiohttp.AiohttpDownloadHandler", "http://u:topsecret%2F@h", "SESSION_FILTER_PROXY"),
        (18, "http2.H2DownloadHandler", "http://u:topsecret@h", "DOWNLOAD_HANDLERS['https']"),
    ],
)
def test_proxy_that_the_download_handler_cannot_use_is_refused(
    case: int, handler: str, proxy: str, named: str
) -> None:
    """What would fail on every request, or hang, stops the crawl at start."""
    if "_aiohttp" in handler:
        pytest.importorskip(
            "scrapy.core.downloader.handlers._aiohttp", reason="comes with Scrapy 2.19"
        )
    settings = settings_of(PROXY=proxy, DOWNLOAD_HANDLERS={"https": HANDLERS + handler})
    assert refusal(settings).setting == named


class NoProxies:
    supports_proxies = False


class Unknown:
    pass


def test_case_18_handler_that_says_it_has_no_proxies_is_refused() -> None:
    """Scrapy's own flag is believed."""
    assert str(refusal(settings_of(DOWNLOAD_HANDLERS={"http": NoProxies})).value).endswith(
        "NoProxies"
    )


@pytest.mark.parametrize("proxy", ["https://h.example", "socks5://h.example", "[::1]:80"])
def test_handlers_of_others_are_trusted(proxy: str) -> None:
    """What a handler that is not Scrapy's can do is its user's business."""
    handlers = {"http": Unknown, "https": Unknown}
    assert read(PROXY=proxy, DOWNLOAD_HANDLERS=handlers).make_source().endpoints()


def test_case_40_https_proxy_works_where_the_handlers_can() -> None:
    """Scrapy's aiohttp handler talks TLS to a proxy, for http and https pages."""
    handlers = dict.fromkeys(("http", "https"), HANDLERS + "_aiohttp.AiohttpDownloadHandler")
    (endpoint,) = (
        read(PROXY="https://h.example", DOWNLOAD_HANDLERS=handlers).make_source().endpoints()
    )
    assert endpoint.server == "https://h.example:443"


def test_case_36_ipv6_works_with_the_other_resolver() -> None:
    """The setting that the error names does help."""
    resolver = "scrapy.resolver.CachingHostnameResolver"
    assert read(PROXY="[::1]:80", TWISTED_DNS_RESOLVER=resolver).make_source().endpoints()


@pytest.mark.parametrize("encoding", ["no-such-encoding", 5])
def test_case_31_unknown_credentials_encoding_is_refused(encoding: Any) -> None:
    """Else every request fails when its header is made."""
    assert (
        refusal(settings_of(HTTPPROXY_AUTH_ENCODING=encoding)).setting == "HTTPPROXY_AUTH_ENCODING"
    )


# --- what is around ------------------------------------------------------------------------------


def test_the_addon_passes_its_own_checks() -> None:
    """One line in ADDONS is enough."""
    SessionFilterSettings.from_settings(settings_of(_with_addon=True))


OURS = "scrapy_session_filter."
COMPONENTS: dict[str, dict[Any, Any]] = {
    "DOWNLOADER_MIDDLEWARES": {OURS + "SessionFilterMiddleware": 650, OURS + "ProxyGate": 995},
    "EXTENSIONS": {OURS + "SessionFilterExtension": 500},
}


def by_hand(setting: str, **changes: int | None) -> Settings:
    settings = settings_of()
    for name, components in COMPONENTS.items():
        extra = {OURS + key: value for key, value in changes.items()} if name == setting else {}
        settings.set(name, {**components, **extra}, "project")
    return settings


@pytest.mark.parametrize("position", [601, 650, 699.5])
def test_case_16_middleware_may_lie_between_redirects_and_cookies(position: Any) -> None:
    """By hand too, as the manual shows it."""
    SessionFilterSettings.from_settings(
        by_hand("DOWNLOADER_MIDDLEWARES", SessionFilterMiddleware=position)
    )


@pytest.mark.parametrize(
    ("setting", "component", "position"),
    [
        ("DOWNLOADER_MIDDLEWARES", "SessionFilterMiddleware", 600),
        ("DOWNLOADER_MIDDLEWARES", "SessionFilterMiddleware", 585),
        ("DOWNLOADER_MIDDLEWARES", "SessionFilterMiddleware", 700),
        ("DOWNLOADER_MIDDLEWARES", "SessionFilterMiddleware", 900),
        ("DOWNLOADER_MIDDLEWARES", "ProxyGate", 749),
        ("DOWNLOADER_MIDDLEWARES", "ProxyGate", 900),
        ("DOWNLOADER_MIDDLEWARES", "ProxyGate", None),
        ("DOWNLOADER_MIDDLEWARES", "SessionFilterMiddleware", None),
        ("EXTENSIONS", "SessionFilterExtension", None),
    ],
)
def test_case_16_wrong_position_or_a_missing_part_is_refused(
    setting: str, component: str, position: int | None
) -> None:
    """Each of the three parts needs the others, in their places."""
    error = refusal(by_hand(setting, **{component: position}))
    assert error.setting.startswith(setting)
    assert component in str(error)


class OwnRedirects(RedirectMiddleware):
    pass


def test_case_16_moved_or_replaced_neighbours_count() -> None:
    """What matters is where redirects, cookies and proxies really happen."""
    settings = by_hand("DOWNLOADER_MIDDLEWARES")
    middlewares = settings["DOWNLOADER_MIDDLEWARES"]
    path = "scrapy.downloadermiddlewares."
    for change in (
        {path + "redirect.RedirectMiddleware": None, OwnRedirects: 660},
        {CookiesMiddleware: 640},
        {path + "httpproxy.HttpProxyMiddleware": None},
        {HttpProxyMiddleware: 999},
    ):
        settings.set("DOWNLOADER_MIDDLEWARES", {**middlewares, **change}, "project")
        assert refusal(settings).setting.startswith("DOWNLOADER_MIDDLEWARES")


def test_case_16_switched_off_proxy_middleware_is_refused() -> None:
    """Without it credentials stay in the URL and every request fails."""
    assert refusal(settings_of(HTTPPROXY_ENABLED=False)).setting == "HTTPPROXY_ENABLED"


def test_case_15_switched_off_cookies_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """A visitor without cookies may be wanted, but not unnoticed."""
    read(COOKIES_ENABLED=False)
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "COOKIES_ENABLED" in caplog.text


def test_case_17_known_rival_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A middleware that sets proxies too is named at start."""
    settings = by_hand("DOWNLOADER_MIDDLEWARES")
    rival = {"rotating_proxies.middlewares.RotatingProxyMiddleware": 610}
    settings.set(
        "DOWNLOADER_MIDDLEWARES", {**settings["DOWNLOADER_MIDDLEWARES"], **rival}, "project"
    )
    SessionFilterSettings.from_settings(settings)
    assert "RotatingProxyMiddleware" in caplog.text


@pytest.mark.parametrize("reactor", ["twisted.internet.selectreactor.SelectReactor", "x", None, 5])
def test_other_reactor_is_refused_by_name(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a session needs asyncio."""
    monkeypatch.setattr("scrapy_session_filter.surroundings.is_reactor_installed", lambda: False)
    error = refusal(settings_of(TWISTED_REACTOR=reactor))
    assert error.setting == "TWISTED_REACTOR"
    assert "AsyncioSelectorReactor" in str(error)


def test_reactor_of_the_script_or_none_at_all_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrapy may leave the reactor to the script, or run without Twisted's."""
    read(TWISTED_REACTOR="x", TWISTED_REACTOR_ENABLED=False)
    module = "scrapy_session_filter.surroundings."
    monkeypatch.setattr(module + "is_reactor_installed", lambda: True)
    monkeypatch.setattr(module + "is_asyncio_reactor_installed", lambda: True)
    read(TWISTED_REACTOR=None)


# --- fuzz ----------------------------------------------------------------------------------------

PLAIN = [
    info.name
    for info in FIELDS
    if info.name not in ("SESSION_FILTER_PROXY", "SESSION_FILTER_ENABLED")
]
# Hypothesis tries words that it finds in this file; by itself that one is no password.
texts = st.text().filter(lambda text: "topsecret" not in text)
blobs = st.binary().filter(lambda data: b"topsecret" not in data)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts | blobs
    | st.sampled_from(["0", "1", "true", "nan", "[]", "{}", "[1]", '{"a": 1}', "os.path", "os.getcwd"])
    | st.sampled_from(["http://u:topsecret@h:1", "u:topsecret@", "memory:", "all", "1-2", ">=400"])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3)
    ),
)


@example(name="SESSION_FILTER_RULES", value={"0": "http://u:topsecret@h:1"})
@example(name="SESSION_FILTER_RULES", value={"0": {"where": "u:topsecret@"}})
@given(name=st.sampled_from(PLAIN), value=values)
def test_any_value_is_read_or_refused_in_our_words(name: str, value: Any) -> None:
    """Nothing but `ConfigurationError` comes out, it names the setting, and no password shows."""
    settings = settings_of()
    settings.set(name, value)
    if name == "SESSION_FILTER_PROXIES":
        settings.set("SESSION_FILTER_PROXY", None)
    message, named = "", name
    try:
        found = SessionFilterSettings.from_settings(settings)
        found.make_source()
        found.make_judge()
    except ConfigurationError as error:
        message, named = str(error), error.setting
    assert "topsecret" not in message
    assert named in (name, "SESSION_FILTER_PROXY" if name == "SESSION_FILTER_PROXIES" else name)
