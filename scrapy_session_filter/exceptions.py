"""Everything this package raises on purpose.

::

    SessionFilterError
    ├── ConfigurationError        a setting cannot be used (also a ValueError)
    ├── StoreError                a store cannot be read or written
    │   └── StoreVersionError     it was written by a newer release; it is left untouched
    ├── InvalidRow                one saved session is damaged or out of range: it alone is dropped
    ├── SessionFilterInitError    what an init hook fetched was no page
    ├── SessionFilterRefused      a request cannot carry a session, and must not go out without
    ├── SessionFilterGiveUp       a page was blocked on every attempt it may cost
    └── SessionFilterSessionGone  a request is pinned to a session that no longer exists

The last three reach a request's ``errback``; there they are also Scrapy's `IgnoreRequest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrapy.http import Response

    from scrapy_session_filter.verdict import Verdict


class SessionFilterError(Exception):
    """Base class of all errors of this package."""


class ConfigurationError(SessionFilterError, ValueError):
    """A setting has a value that cannot be used; raised before the first request.

    ``value`` must come in masked where it could hold a secret: it is part of the message.
    """

    def __init__(self, setting: str, value: object, expected: str) -> None:
        super().__init__(f"{setting} = {value!r}: expected {expected}")
        self.setting = setting
        self.value = value
        self.expected = expected


class StoreError(SessionFilterError):
    """A store cannot be opened, read or written."""


class StoreVersionError(StoreError):
    """The store was written by a newer release of this package."""


class InvalidRow(SessionFilterError, ValueError):  # noqa: N818 - names a row, not a failure of ours
    """A saved session does not hold what a session must hold."""


class SessionFilterRefused(SessionFilterError):  # noqa: N818 - the name users match in errbacks
    """A request should carry a session but cannot; it was stopped instead of going out bare."""


class SessionFilterInitError(SessionFilterError):
    """What a `session_filter_init` fetched was blocked, throttled or an error; it may catch this.

    ``response`` is the answer, ``verdict`` the fields of the verdict on it.
    """

    def __init__(self, response: Response, verdict: dict[str, Any]) -> None:
        super().__init__(f"{response}: {verdict['kind']} ({verdict['reason']})")
        self.response = response
        self.verdict = verdict


class SessionFilterGiveUp(SessionFilterError):  # noqa: N818 - the name users match in errbacks
    """A page was blocked on each of the attempts that `SESSION_FILTER_RETRY_TIMES` allows."""

    def __init__(self, url: str, verdict: Verdict, attempts: int) -> None:
        super().__init__(f"gave up {url} after {attempts} attempts: {verdict}")
        self.url = url
        self.verdict = verdict
        self.attempts = attempts


class SessionFilterSessionGone(SessionFilterError):  # noqa: N818 - the name users match in errbacks
    """A request is pinned to a session that was retired or never existed."""

    def __init__(self, session_id: str, site: str) -> None:
        super().__init__(f"session {session_id!r} of site {site!r} is gone")
        self.session_id = session_id
        self.site = site
