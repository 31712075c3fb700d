"""Every setting of ours: its name, default, meaning and check, once."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scrapy.utils.project import data_path

from scrapy_session_filter.components import (
    read_browser_context,
    read_detectors,
    read_expect,
    read_hook,
    read_policy,
    read_queue,
    read_rules,
    read_store,
    read_targets,
)
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.identities import identity_source
from scrapy_session_filter.policies.classic import MAX_SESSIONS, ClassicPolicy
from scrapy_session_filter.proxies import proxy_source
from scrapy_session_filter.reading import (
    anything,
    choice,
    flag,
    markers,
    priorities,
    seconds,
    statuses,
    whole,
)
from scrapy_session_filter.session import Limits
from scrapy_session_filter.site_keys import site_key_function
from scrapy_session_filter.stores import store_from_uri
from scrapy_session_filter.surroundings import check_impersonating, check_surroundings, wire_of
from scrapy_session_filter.verdicts import Judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scrapy import Request
    from scrapy.settings import BaseSettings
    from typing_extensions import Self

    from scrapy_session_filter.identities import IdentitySource
    from scrapy_session_filter.policies import Policy
    from scrapy_session_filter.proxies import ProxySource
    from scrapy_session_filter.stores.base import SessionStore

PREFIX = "SESSION_FILTER_"

DEFAULT_POLICY = "adaptive"
"""What SESSION_FILTER_POLICY is when it is not set."""

STORE_FILE = "sessions.sqlite"
"""The file of ``sqlite:`` in JOBDIR or the project's data directory."""

_MANY = 10_000_000
_YEARS = 10 * 365 * 86400.0


def _about(
    default: object, read: Callable[[str, object], Any], meaning: str, *, name: str = ""
) -> dict[str, Any]:
    return {"default": default, "read": read, "meaning": meaning, "name": name}


def _name(entry: Field[Any]) -> str:
    return PREFIX + (entry.metadata["name"] or entry.name.upper())


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionFilterSettings:
    """The settings of a crawl, checked and resolved; made by `from_settings`.

    Times are in seconds; 0 means no limit unless the meaning says otherwise.
    """

    enabled: bool = field(metadata=_about(True, flag, "off: the components raise NotConfigured"))
    proxy: object = field(
        repr=False,
        metadata=_about(
            None,
            anything,
            "one gateway URL in which {session} becomes the session id and {session:8} its first 8"
            " characters; or 'direct': sessions without a proxy",
        ),
    )
    proxies: object = field(
        repr=False,
        metadata=_about(
            None,
            anything,
            "list of proxy URLs, path of a file with one a line (read again when it changes), or import"
            " path of a callable that returns a list, sync or async",
        ),
    )
    proxies_refresh: float = field(
        metadata=_about(300.0, seconds(1, _YEARS), "seconds between two calls of that callable")
    )
    policy: type[Policy] = field(
        metadata=_about(
            DEFAULT_POLICY, read_policy, "how a session is picked: a name or an import path"
        )
    )
    max_sessions: int = field(
        metadata=_about(
            None,
            whole(0, _MANY),
            "classic: the article's maxSessions (100); others: bound of unretired sessions (0: none)",
        )
    )
    max_age: float = field(
        metadata=_about(
            86400.0, seconds(0, _YEARS), "seconds; an older session is retired (0: never)"
        )
    )
    max_idle: float = field(
        metadata=_about(
            0.0, seconds(0, _YEARS), "seconds; a session unused for longer is retired (0: never)"
        )
    )
    max_uses: int = field(
        metadata=_about(0, whole(0, _MANY), "requests a session may serve (0: no limit)")
    )
    max_errors: int = field(
        metadata=_about(
            1, whole(1, _MANY), "blocks after which the simple policies retire a session"
        )
    )
    concurrency: int = field(
        metadata=_about(0, whole(0, _MANY), "most requests at once per session (0: no limit)")
    )
    delay: float = field(
        metadata=_about(0.0, seconds(0, 86400), "least seconds between two requests of one session")
    )
    site_key: Callable[[Request], str] = field(
        metadata=_about(
            "domain",
            lambda _, value: site_key_function(value),
            "what has a pool of its own: 'domain', 'host', 'all', or a callable(request)'s import path",
            name="SITE",
        )
    )
    max_sites: int = field(
        metadata=_about(
            1000, whole(1, _MANY), "pools held in memory; the longest unused is saved and unloaded"
        )
    )
    block_statuses: tuple[int | str, ...] | None = field(
        metadata=_about(
            None,
            statuses,
            "replaces the statuses that are blocks: list of ints and of strings '494-499' or '>=400'",
        )
    )
    block_markers: tuple[bytes, ...] = field(
        metadata=_about([], markers, "extra byte strings that prove a block page")
    )
    detectors: tuple[Any, ...] = field(
        metadata=_about(
            {}, read_detectors, "dict of detectors to priorities, over the built-in; None is off"
        )
    )
    rules: dict[str, Any] = field(
        metadata=_about(
            {},
            read_rules,
            "dict of rule names to rules of your own, or to None: a built-in one is off",
        )
    )
    expect: dict[str, Any] = field(
        metadata=_about(
            {},
            read_expect,
            "what good pages must hold: dict of URL patterns to dicts of css, bytes and min_size",
        )
    )
    learn_normal: bool = field(
        metadata=_about(
            True,
            flag,
            "a small page that one session gets for every URL, while others get pages, is a block",
        )
    )
    engines: dict[Any, float | None] = field(
        metadata=_about(
            {}, priorities, "dict of engine bindings to places, over the built-in; None is off"
        )
    )
    browser_context: Any = field(
        metadata=_about(
            {},
            read_browser_context,
            "arguments of the sessions' Playwright contexts (locale, timezone_id, ...): a dict, or the"
            " import path of a function(session) that returns one",
        )
    )
    retry_times: int = field(
        metadata=_about(
            10,
            whole(0, 10_000),
            "attempts per page that blocks and proxy errors may cost, apart from Scrapy's RETRY_TIMES",
        )
    )
    give_up: str = field(
        metadata=_about(
            "drop",
            choice("drop", "deliver"),
            "then: 'drop' (the errback gets SessionFilterGiveUp) or 'deliver' (the response, flagged)",
        )
    )
    wait_timeout: float = field(
        metadata=_about(
            2.0,
            seconds(0.05, 3600),
            "longest wait for a session, in seconds; then the request goes back to the scheduler",
        )
    )
    first_timeout: float = field(
        metadata=_about(
            30.0,
            seconds(0, _YEARS),
            "download time-out in seconds of a session not yet proven (0: Scrapy's own)",
        )
    )
    exhausted_timeout: float = field(
        metadata=_about(
            900.0,
            seconds(0, _YEARS),
            "seconds for which a site is asked for pages and gives none, after which it is given up"
            " until one comes; all sites: the spider closes (0: never)",
        )
    )
    store: str = field(
        repr=False,
        metadata=_about(
            "sqlite:",
            read_store,
            "'memory:', 'sqlite:PATH' (no path: in JOBDIR, else the project's data dir) or 'redis://...'",
        ),
    )
    store_timeout: float = field(
        metadata=_about(
            300.0,
            seconds(0, _YEARS),
            "seconds that requests wait for a store that is gone; then the spider closes (0: never)",
        )
    )
    save_interval: float = field(
        metadata=_about(2.0, seconds(0.05, 3600), "seconds between two saves of what changed")
    )
    identities: IdentitySource = field(
        metadata=_about(
            "fake-useragent",
            lambda _, value: identity_source(value),
            "where header sets come from: a name or import path; None: Scrapy's own headers",
            name="IDENTITY",
        )
    )
    impersonate: tuple[str, ...] | None = field(
        metadata=_about(
            None,
            read_targets,
            "list of browsers ('chrome', 'firefox', 'safari184', ...) one of which each session"
            " impersonates, through scrapy-impersonate",
        )
    )
    init: Callable[..., Any] | None = field(
        metadata=_about(
            None,
            read_hook(object(), object()),
            "import path of an async function(session, fetch) that prepares a session before its first"
            " use; a spider method session_filter_init comes first",
        )
    )
    init_attempts: int = field(
        metadata=_about(
            20,
            whole(0, _MANY),
            "inits of a site that may fail in a row before the spider closes (0: no limit)",
        )
    )
    logged_out: Callable[..., Any] | None = field(
        metadata=_about(
            None,
            read_hook(object()),
            "import path of a function(response): True where the session has to be prepared anew; a"
            " spider method session_filter_logged_out comes first",
        )
    )
    dry_run: bool = field(
        metadata=_about(
            False,
            flag,
            "sessions are used and verdicts counted, but nothing rests, retires or is retried",
        )
    )
    scheduler_priority_queue: type = field(
        metadata=_about(
            "scrapy.pqueues.DownloaderAwarePriorityQueue",
            read_queue,
            "the scheduler's queue that ours wraps; the add-on puts yours here",
        )
    )
    #: where PROXY or PROXIES gets its endpoints, not yet read; None outside a crawl
    source: ProxySource | None = field(repr=False)
    #: the file of ``sqlite:`` without a path
    store_path: str = field()

    @classmethod
    def from_settings(cls, settings: BaseSettings, *, crawling: bool = True) -> Self:
        """Read a crawl's settings.

        ``crawling`` is false for commands: they need no proxies, no identities and no crawl around
        them. While ``SESSION_FILTER_ENABLED`` is false everything else is left unread. Raises
        `ConfigurationError` for the first value that cannot be used.
        """
        enabled = flag(f"{PREFIX}ENABLED", settings.get(f"{PREFIX}ENABLED", default=True))
        if enabled:
            _check_names(settings)
        values: dict[str, Any] = {}
        for entry in fields(cls):
            if entry.metadata:
                values[entry.name] = _value(entry, settings if enabled else {}, crawling=crawling)
        if values["max_sessions"] is None:
            is_classic = issubclass(values["policy"], ClassicPolicy)
            values["max_sessions"] = MAX_SESSIONS if is_classic else 0
        source = None
        if enabled and crawling:
            source = proxy_source(
                values["proxy"], values["proxies"], refresh=values["proxies_refresh"]
            )
            check_surroundings(settings, direct=source.direct)
            if values["impersonate"]:
                check_impersonating(settings)
            if not source.direct:
                source.wire = wire_of(settings)
        values["enabled"] = enabled
        return cls(**values, source=source, store_path=_store_path(settings))

    @property
    def limits(self) -> Limits:
        """What a session may be used for."""
        return Limits(
            max_sessions=self.max_sessions,
            max_age=self.max_age,
            max_idle=self.max_idle,
            max_uses=self.max_uses,
            concurrency=self.concurrency,
            delay=self.delay,
        )

    def make_source(self) -> ProxySource:
        """Return the proxies, read for the first time unless they come asynchronously.

        Raises `ConfigurationError` where they cannot be used, RuntimeError where the settings were
        read with ``crawling=False``.
        """
        if self.source is None:
            msg = "these settings were read outside a crawl"
            raise RuntimeError(msg)
        self.source.check()
        return self.source

    def make_judge(self) -> Judge:
        """Return what turns answers into verdicts."""
        return Judge(
            block_statuses=self.block_statuses,
            block_markers=self.block_markers,
            detectors=self.detectors,
            rules=self.rules,
            expect=self.expect,
            learn_normal=self.learn_normal,
        )

    def make_store(self) -> SessionStore:
        """Return the store, not yet open.

        Raises `ConfigurationError` where the address or the driver is missing something.
        """
        return store_from_uri(self.store, default_path=self.store_path)


class SettingInfo(NamedTuple):
    """A setting as the manual shows it."""

    name: str
    default: Any
    meaning: str


FIELDS = tuple(
    SettingInfo(_name(entry), entry.metadata["default"], entry.metadata["meaning"])
    for entry in fields(SessionFilterSettings)
    if entry.metadata
)
"""Every setting, in the order of the manual."""


def _value(entry: Field[Any], settings: Mapping[str, Any], *, crawling: bool) -> Any:
    name = _name(entry)
    default, read = entry.metadata["default"], entry.metadata["read"]
    if entry.name == "identities":  # the one setting whose None means something
        return read(name, settings.get(name) if name in settings or not crawling else default)
    value = settings.get(name)
    if value is None:
        value = default
    return None if value is None else read(name, value)


def _check_names(settings: Mapping[str, Any]) -> None:
    known = [info.name for info in FIELDS]
    for name in settings:
        if isinstance(name, str) and name.startswith(PREFIX) and name not in known:
            nearest = get_close_matches(name, known, n=1, cutoff=0.0)
            raise ConfigurationError(name, "...", f"no setting of this name, perhaps {nearest[0]}")


def _store_path(settings: BaseSettings) -> str:
    jobdir = settings["JOBDIR"]
    return str(Path(jobdir, STORE_FILE)) if jobdir else data_path(STORE_FILE)
