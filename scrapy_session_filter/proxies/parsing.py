"""How a proxy is written: ``scheme://user:password@host:port``.

The credentials end at the last ``@``, the user name at the first ``:``; percent escapes are decoded
exactly once. ``{session}`` in the user name or the password stands for the session id,
``{session:8}`` for its first 8 characters; both are replaced literally, and no other brace means
anything.

An error about a proxy that cannot be read shows only the parts that are surely no secret.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import sys
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import idna

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.proxies.endpoint import TEMPLATE, ProxyEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("scrapy_session_filter")

MAX_LENGTH = 4096
"""Characters a proxy may have, written out."""

DEFAULT_PORTS = {"http": 80, "https": 443} | dict.fromkeys(
    ("socks4", "socks4a", "socks5", "socks5h"), 1080
)

BROKEN_ESCAPE = (logging.WARNING, "a '%' that starts no escape is kept as it is (write it %25)")
COLON_IN_USER = (
    logging.WARNING,
    "a user name holds a ':': for the proxy, the password begins there",
)
NOT_ASCII = (logging.INFO, "credentials outside ASCII are sent in HTTPPROXY_AUTH_ENCODING")
LOCAL = (logging.INFO, "a proxy has a loopback or private address")

Note = tuple[int, str]
"""A logging level, and something worth saying about a proxy that can be used nevertheless."""


@dataclass(frozen=True, slots=True)
class Wire:
    """What this crawl can say to a proxy.

    ``auth_encoding`` is the setting HTTPPROXY_AUTH_ENCODING. Of the download handlers in use,
    ``schemes`` are those in which they can talk to a proxy, ``ipv6`` whether they reach an IPv6
    address, and ``garbled`` the characters they spoil in credentials.
    """

    auth_encoding: str = "latin-1"
    schemes: tuple[str, ...] = ("http",)
    ipv6: bool = True
    garbled: str = ""


_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_SLASH_TYPO = re.compile(r"(https?|socks\w*):(?!//)", re.IGNORECASE)
_ANY_TEMPLATE = re.compile(r"\{\s*session[^}]*\}", re.IGNORECASE)  # the mistaken ones too
_USER = re.compile(rf"((?i:{_ANY_TEMPLATE.pattern}|[^:])*)(?::(.*))?", re.DOTALL)
_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_HOST_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]/?#]*)(?::([^/?#]*))?([/?#].*)?", re.DOTALL)
_PORT = re.compile(r"[0-9]{1,5}")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?", re.IGNORECASE)
_SHOWN_HOST = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}/?")
_SHOWN_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)+")
_LOCAL = (
    *("127.", "10.", "192.168.", "169.254.", "localhost", "[::1]", "[fc", "[fd", "[fe8"),
    *(f"172.{n}." for n in range(16, 32)),
)


def parse_proxy(
    text: object,
    *,
    setting: str,
    where: str = "",
    wire: Wire = Wire(),
    note: Callable[[Note], None] | None = None,
) -> ProxyEndpoint:
    """Read a proxy as users write it; ``host:port`` alone means ``http://host:port``.

    ``where`` says in errors where it stands (``"line 7"``). ``note`` is given what is odd but
    usable; by default that is logged.

    Raises `ConfigurationError`, whose message shows nothing that could be a password.
    """
    try:
        if not isinstance(text, str):
            msg = f"a proxy URL as text, not {type(text).__name__}"
            raise _Unreadable(msg)  # noqa: TRY301 - one place turns reasons into errors
        return _parse(text.strip(), wire, note or _log_note)
    except _Unreadable as reason:
        place = f" ({where})" if where else ""
        raise ConfigurationError(setting, _shown(text), f"{reason}{place}") from None


class _Unreadable(Exception):  # noqa: N818 - never leaves this module
    """Why a text is no usable proxy; must not quote credentials."""


def _parse(text: str, wire: Wire, note: Callable[[Note], None]) -> ProxyEndpoint:
    if not text.isprintable() or " " in text or not text or len(text) > MAX_LENGTH:
        msg = f"1 to {MAX_LENGTH} characters without blanks, control or invisible ones"
        raise _Unreadable(msg)
    scheme, rest = _split_scheme(text, wire.schemes)
    userinfo, at, address = rest.rpartition("@")
    # http://host:80/path@name could mean the host or the name: then a port must decide.
    clear = rest != text and not any(delimiter in userinfo for delimiter in "/?#")
    host, port = _parse_address(address, DEFAULT_PORTS.get(scheme) if clear else None)
    if host.startswith("[") and not wire.ipv6:
        msg = (
            "a host name or IPv4 address; to reach IPv6 ones, set TWISTED_DNS_RESOLVER ="
            " 'scrapy.resolver.CachingHostnameResolver' in the project's settings"
        )
        raise _Unreadable(msg)
    username = password = ""
    if at:
        username, password = _parse_credentials(userinfo, wire, note)
    if host.startswith(_LOCAL):
        note(LOCAL)
    identity = f"{scheme}\n{host}\n{port}\n{username}"
    return ProxyEndpoint(
        scheme=sys.intern(scheme),
        host=host,
        port=port,
        username=sys.intern(username),
        password=sys.intern(password),
        key=blake2b(identity.encode(), digest_size=8).hexdigest(),
        per_session=bool(TEMPLATE.search(username) or TEMPLATE.search(password)),
    )


def _split_scheme(text: str, schemes: tuple[str, ...]) -> tuple[str, str]:
    if _SLASH_TYPO.match(text):
        msg = "'//' after the scheme's colon"
        raise _Unreadable(msg)
    match = _SCHEME.match(text)
    scheme, rest = (match[1].lower(), match[2]) if match else ("http", text)
    if scheme not in schemes:
        msg = (
            f"a proxy of scheme {' or '.join(schemes)}: the download handlers in use cannot talk to"
            " one of another scheme"
        )
        raise _Unreadable(msg)
    if rest.startswith("/"):
        msg = "user name or host right after 'scheme://'"
        raise _Unreadable(msg)
    return scheme, rest


def _parse_address(address: str, default_port: int | None) -> tuple[str, int]:
    if address.count(":") > 1 and "[" not in address:
        msg = (
            "http://user:password@host:port, with one ':' after the host (an IPv6 address stands in"
            " brackets: [::1]:8080)"
        )
        raise _Unreadable(msg)
    match = _HOST_PORT.fullmatch(address)
    if not match:
        msg = "host:port"
        raise _Unreadable(msg)
    host, port, tail = match.groups()
    if tail not in {None, "/"}:
        msg = "nothing after the port: a proxy has no path or query"
        raise _Unreadable(msg)
    return _parse_host(host), _parse_port(port, default_port)


def _parse_port(port: str | None, default: int | None) -> int:
    if port is None and default:
        return default
    if not port or not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        msg = "a port of 1 to 65535 after the host"
        raise _Unreadable(msg)
    return int(port)


def _parse_host(host: str) -> str:
    if host.startswith("["):
        return _parse_ipv6(host[1:-1])
    if "{" in host:
        msg = "{session} in the user name or the password, not in the host"
        raise _Unreadable(msg)
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except UnicodeError:  # idna.IDNAError is one
            msg = "a host name that IDNA can encode"
            raise _Unreadable(msg) from None
    if not _HOST.fullmatch(host):
        msg = "a host name or address"
        raise _Unreadable(msg)
    if host.rstrip(".").rpartition(".")[2].isdigit():  # no top-level domain is a number
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            msg = "an IPv4 address of four numbers up to 255"
            raise _Unreadable(msg) from None
    return host.lower()


def _parse_ipv6(address: str) -> str:
    if "%" in address:
        msg = "an IPv6 address without a zone id (%...)"
        raise _Unreadable(msg)
    try:
        return f"[{ipaddress.IPv6Address(address).compressed}]"
    except ValueError:
        msg = "an IPv6 address in the brackets"
        raise _Unreadable(msg) from None


def _parse_credentials(userinfo: str, wire: Wire, note: Callable[[Note], None]) -> tuple[str, str]:
    match = _USER.fullmatch(userinfo)
    username = _decode(match[1], wire.auth_encoding, note) if match else ""
    password = _decode(match[2], wire.auth_encoding, note) if match and match[2] else ""
    if not username:
        msg = "a user name before the '@': Scrapy sends no credentials without one"
        raise _Unreadable(msg)
    if ":" in TEMPLATE.sub("", username):
        note(COLON_IN_USER)
    if any(char in username + password for char in wire.garbled):
        msg = f"credentials without '{wire.garbled}', which the download handler in use spoils"
        raise _Unreadable(msg)
    for found in (*_ANY_TEMPLATE.findall(username), *_ANY_TEMPLATE.findall(password)):
        template = TEMPLATE.fullmatch(found)
        if not template or not 1 <= int(template[1] or 12) <= 12:
            msg = "{session}, or {session:N} for its first N characters (1 to 12)"
            raise _Unreadable(msg)
    if not (username + password).isascii():
        note(NOT_ASCII)
        try:
            (username + password).encode(wire.auth_encoding)
        except UnicodeEncodeError:
            msg = (
                f"credentials that {wire.auth_encoding} can encode; to send others, set"
                " HTTPPROXY_AUTH_ENCODING = 'utf-8'"
            )
            raise _Unreadable(msg) from None
    return username, password


def _decode(text: str, encoding: str, note: Callable[[Note], None]) -> str:
    """Undo percent escapes once; what is no UTF-8 is taken for bytes of the wire's encoding."""
    if "%" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        note(BROKEN_ESCAPE)
    raw = unquote_to_bytes(text)
    try:
        decoded = raw.decode()
    except UnicodeDecodeError:
        try:
            decoded = raw.decode(encoding if text.isascii() else "ascii")
        except UnicodeDecodeError:
            msg = "percent escapes of UTF-8 in the credentials"
            raise _Unreadable(msg) from None
    if any(c < " " or c == "\x7f" for c in decoded):
        msg = "credentials without control characters"
        raise _Unreadable(msg)
    return decoded


def _shown(text: object) -> str:
    """Show of an unreadable proxy only what has the shape of a scheme and of host:port."""
    if not isinstance(text, str):
        return type(text).__name__
    match = _SCHEME.match(text.strip())
    scheme = match[1].lower() if match else ""
    before, at, tail = (match[2] if match else text.strip()).rpartition("@")
    is_address = _SHOWN_HOST.fullmatch(tail) or (not at and _SHOWN_NAME.fullmatch(tail))
    if not is_address or len(tail) > 100:
        tail = "***"
    known = f"{scheme}://" if scheme in DEFAULT_PORTS else "***://" if match else ""
    return f"{known}{'***@' if before else ''}{tail}"


def _log_note(note: Note) -> None:
    logger.log(*note)
