"""A proxy as such: what goes over the wire, and how it is shown.

A password never appears in a log, an error or a ``repr``: `mask` hides what looks like credentials
in any text.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote

TEMPLATE = re.compile(r"\{session(?::(\d{1,2}))?\}")
"""What stands for the session id in credentials, or for its first characters."""

_WORD = re.compile(r"\S+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}:/{1,2}", re.IGNORECASE)
_USER_AND_PASSWORD = re.compile(r"[^/@]*:")  # a password may hold anything
_USER = re.compile(r"[^/?#]*@")
_BARE_PASSWORD = re.compile(r"[^/@:]*:(?!/)")
_BARE_USER = re.compile(r"[^/@]+@(?=[\w.-]+:\d|\[)")
_HEADER = re.compile(r"\b(Basic\s+)[\w+/=-]+", re.IGNORECASE)

_COUNTRY = re.compile(r"(?:^|[-_ .])(?:country|cc)[-_=]([a-z]{2})(?![a-z])", re.IGNORECASE)


def mask(text: object) -> str:
    """Return ``str(text)`` with everything that looks like proxy credentials replaced by ``***``.

    Made for messages of other libraries, some of which quote the proxy's URL with its password.
    """
    shown = str(text)
    if "@" in shown:
        shown = _WORD.sub(lambda word: _mask_word(word[0]), shown)
    return _HEADER.sub(r"\1***", shown)


def _mask_word(word: str) -> str:
    """Mask a text without blanks, in linear time; what is in doubt is hidden up to its last ``@``."""
    last = word.rfind("@")
    if last < 0:
        return word
    if _BARE_PASSWORD.match(word) or _BARE_USER.match(word):
        return f"***{word[last:]}"
    masked, done = "", 0
    for scheme in _SCHEME.finditer(word, 0, last):
        start = scheme.end()
        if start < done:
            continue
        if _USER_AND_PASSWORD.match(word, start, last):
            return f"{masked}{word[done:start]}***{word[last:]}"
        if user := _USER.match(word, start):
            masked += f"{word[done:start]}***"
            done = user.end() - 1
    return masked + word[done:]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ProxyEndpoint:
    """One proxy; immutable and small (a list may hold 100,000 of them). Made by `parse_proxy`.

    ``username`` and ``password`` are decoded and may hold ``{session}``; both are empty at a proxy
    that asks for none. ``key`` is 16 hex digits made of scheme, host, port and user name: what is
    learnt of a proxy is kept under it, and outlives a changed password. Two endpoints are equal if
    key and password are.
    """

    scheme: str
    host: str  #: an IPv6 address stands in brackets
    port: int
    username: str
    password: str
    key: str
    per_session: bool  #: whether each session is another user, hence usually another exit

    @property
    def server(self) -> str:
        """``scheme://host:port``, without credentials."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def label(self) -> str:
        """What logs and reports call it: it holds no credentials."""
        return self.server

    @property
    def group(self) -> str | None:
        """The subnet that sites block as one: /24 of an IPv4 address, /48 of IPv6; None: a name."""
        if self.host[0] == "[":
            return str(ipaddress.ip_network((self.host[1:-1], 48), strict=False))
        if self.host[-1].isdigit():  # no top-level domain ends in a digit
            return f"{self.host.rpartition('.')[0]}.0/24"
        return None

    @property
    def country(self) -> str | None:
        """The two letters of the exit's country where the credentials ask for one, else None.

        As providers write it: ``user-country-us``, ``customer-x-cc-US``, ``password_country-us``.
        """
        match = _COUNTRY.search(f"{self.username} {self.password}")
        return match[1].lower() if match else None

    def credentials(self, session_id: str) -> tuple[str, str] | None:
        """Return user name and password for a session, or None where the proxy asks for none."""
        if not self.username:
            return None
        if not self.per_session:
            return self.username, self.password
        return _fill(self.username, session_id), _fill(self.password, session_id)

    def url(self, session_id: str) -> str:
        """Return the URL to put into ``request.meta["proxy"]``, for the eyes of Scrapy alone.

        Every special character of the credentials is escaped, and a password is always there, if
        empty: HttpProxyMiddleware fails on a user name alone.
        """
        credentials = self.credentials(session_id)
        if credentials is None:
            return self.server
        user, password = credentials
        auth = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"{self.scheme}://{auth}@{self.host}:{self.port}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProxyEndpoint):
            return NotImplemented
        return self.key == other.key and self.password == other.password

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<ProxyEndpoint {self.label} {self.key}>"

    def __str__(self) -> str:
        return self.label


def _fill(template: str, session_id: str) -> str:
    return TEMPLATE.sub(
        lambda match: session_id[: int(match[1])] if match[1] else session_id, template
    )
