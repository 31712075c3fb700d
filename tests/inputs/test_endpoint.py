"""Proxies as they are written, shown and sent; the numbers are those of the catalogue of bad input."""

from __future__ import annotations

import asyncio
import base64
import logging
import pickle
import time
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy import Request
from scrapy.downloadermiddlewares.httpproxy import HttpProxyMiddleware

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.proxies import ProxyEndpoint, Wire, mask, parse_proxy
from scrapy_session_filter.proxies.parsing import (
    BROKEN_ESCAPE,
    COLON_IN_USER,
    LOCAL,
    NOT_ASCII,
    Note,
)

SESSION = "abcdefghijkl"
EVERY_SCHEME = Wire(schemes=("http", "https", "socks4", "socks4a", "socks5", "socks5h"))


def parse(text: object, wire: Wire | None = None, notes: list[Note] | None = None) -> ProxyEndpoint:
    """Parse with the notes collected instead of logged."""
    notes = [] if notes is None else notes
    return parse_proxy(text, setting="SESSION_FILTER_PROXY", wire=wire or Wire(), note=notes.append)


def refusal(text: object, wire: Wire | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, wire)
    message = str(caught.value)
    assert message.startswith("SESSION_FILTER_PROXY = ")
    assert "topsecret" not in message
    assert "topsecret" not in repr(caught.value)
    assert caught.value.__cause__ is None
    return message


def sent(endpoint: ProxyEndpoint, encoding: str = "latin-1") -> tuple[str, str | None]:
    """Let Scrapy's own middleware act on the URL: the proxy it connects to, the plain credentials."""
    request = Request("https://shop.example/", meta={"proxy": endpoint.url(SESSION)})
    HttpProxyMiddleware(encoding).process_request(request)
    header = request.headers.get("Proxy-Authorization")
    if header is None:
        return request.meta["proxy"], None
    kind, _, token = header.partition(b" ")
    assert kind == b"Basic"
    return request.meta["proxy"], base64.b64decode(token).decode(encoding)


# --- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "text", "server", "credentials"),
    [
        (25, "proxy.example:8000", "http://proxy.example:8000", None),
        (25, "HTTP://Proxy.Example:8000", "http://proxy.example:8000", None),
        (26, "key@proxy.example:8000", "http://proxy.example:8000", "key:"),
        (26, "http://key:@proxy.example:8000", "http://proxy.example:8000", "key:"),
        (27, "user:pass@x@proxy.example:8000", "http://proxy.example:8000", "user:pass@x"),
        (28, "http://user:p#a/s?s@proxy.example:80", "http://proxy.example:80", "user:p#a/s?s"),
        (28, "http://user:p%23a%2Fs%3Fs@proxy.example", "http://proxy.example:80", "user:p#a/s?s"),
        (29, "http://us%40er:%40%2540@proxy.example", "http://proxy.example:80", "us@er:@%40"),
        (30, "http://user:%zz%@proxy.example", "http://proxy.example:80", "user:%zz%"),
        (31, "http://ü:ÿ@proxy.example", "http://proxy.example:80", "ü:ÿ"),
        (31, "http://%C3%BC:%FF@proxy.example", "http://proxy.example:80", "ü:ÿ"),
        (33, "http://a%3Ab:c@proxy.example", "http://proxy.example:80", "a:b:c"),
        (33, "http://a:b:c@proxy.example", "http://proxy.example:80", "a:b:c"),
        (34, "http://proxy.example", "http://proxy.example:80", None),
        (34, "192.0.2.1:00080", "http://192.0.2.1:80", None),
        (36, "user:pw@[2001:DB8::0:1]:80", "http://[2001:db8::1]:80", "user:pw"),
        (38, "http://bücher.example:80", "http://xn--bcher-kva.example:80", None),
        (38, "http://STRASSE。example:80", "http://strasse.example:80", None),
        (42, " \t proxy.example:80 \n", "http://proxy.example:80", None),
        (43, "http://proxy.example:80/", "http://proxy.example:80", None),
        (47, "127.0.0.1:3128", "http://127.0.0.1:3128", None),
    ],
)
def test_good_proxy_reaches_the_wire_as_meant(
    case: int, text: str, server: str, credentials: str | None
) -> None:
    """Scrapy's own middleware makes of the URL the server and credentials that were written."""
    endpoint = parse(text)
    assert endpoint.server == endpoint.label == server
    assert sent(endpoint) == (server, credentials)
    assert not endpoint.per_session


@pytest.mark.parametrize(
    ("text", "credentials"),
    [
        ("http://u-{session}:pw@gw.example:80", f"u-{SESSION}:pw"),
        ("http://u-{session:8}:pw@gw.example:80", f"u-{SESSION[:8]}:pw"),
        ("http://u-{session:8}@gw.example:80", f"u-{SESSION[:8]}:"),
        ("http://u:pw_{session}_x{session:1}@gw.example:80", f"u:pw_{SESSION}_xa"),
        (
            "http://u-%7Bsession%7D:{0}{}{{x}}%25s@gw.example:80",
            f"u-{SESSION}:{{0}}{{}}{{{{x}}}}%s",
        ),
    ],
)
def test_session_takes_the_place_of_the_template_and_nothing_else(
    text: str, credentials: str
) -> None:
    """``{session}`` is replaced literally; braces and percent signs beside it mean nothing."""
    endpoint = parse(text)
    assert endpoint.per_session
    assert sent(endpoint) == ("http://gw.example:80", credentials)


@pytest.mark.parametrize(
    "template",
    ["{Session}", "{session_id}", "{session:}", "{session:0}", "{session:13}", "{%20session}"],
)
def test_mistaken_template_is_refused(template: str) -> None:
    """A misspelt template would make all sessions one; it is refused with the right spelling."""
    assert "{session:N}" in refusal(f"http://u-{template}:topsecret@gw.example:80")
    assert "{session:N}" in refusal(f"http://u:topsecret{template}@gw.example:80")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("http://u:100%@h.example", BROKEN_ESCAPE),
        ("http://a%3Ab:c@h.example", COLON_IN_USER),
        ("http://u:ü@h.example", NOT_ASCII),
        ("127.0.0.1:80", LOCAL),
        ("http://172.31.0.1", LOCAL),
        ("169.254.169.254:80", LOCAL),
        ("[fe80::1]:80", LOCAL),
        ("http://localhost", LOCAL),
        ("http://u:100%25@172.32.0.1", None),
    ],
)
def test_what_is_odd_but_usable_is_noted(text: str, note: Note | None) -> None:
    """Cases 30, 31, 33 and 47 are accepted and said."""
    notes: list[Note] = []
    parse(text, notes=notes)
    assert notes == ([] if note is None else [note])


def test_notes_are_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    """Without a collector a note goes to the log, and the credentials do not."""
    parse_proxy("http://u:topsecret%@h.example", setting="X")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "topsecret" not in caplog.text


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "text", "hint"),
    [
        (32, "http://user:topsecret日本@h.example", "HTTPPROXY_AUTH_ENCODING = 'utf-8'"),
        (32, "http://us😀er:topsecret@h.example", "HTTPPROXY_AUTH_ENCODING = 'utf-8'"),
        (34, "user:topsecret@h.example", "port"),
        (34, "http://user:topsecret@h.example:", "port"),
        (34, "http://user:topsecret@h.example:0", "port"),
        (34, "http://user:topsecret@h.example:65536", "port"),
        (34, "http://user:topsecret@h.example:100000000080", "port"),
        (34, "http://user:topsecret@h.example:abc", "port"),
        (34, "http://user:topsecret@h.example:-1", "port"),
        (34, "http://user:topsecret@h.example:8_0", "port"),
        (34, "http://user:topsecret@h.example:٨٠", "port"),
        (34, "http://user:topsecret", "port"),
        (34, "hostonly", "port"),
        (35, "http:/user:topsecret@h.example", "'//'"),
        (35, "http:user:topsecret@h.example:80", "'//'"),
        (35, "http:///user:topsecret@h.example:80", "right after"),
        (37, "user:topsecret@::1:80", "brackets"),
        (37, "fe80::1:80", "brackets"),
        (37, "http://user:topsecret@[fe80::1%eth0]:80", "zone"),
        (37, "http://[fe80::1%25eth0]:80", "zone"),
        (37, "http://[::g]:80", "IPv6"),
        (37, "http://[::1:80", "host"),
        (37, "http://[1.2.3.4]:80", "IPv6"),
        (37, "http://h[::1]:80", "host"),
        (38, "http://xn--\u00ad.example:80", "character"),
        (38, "http://\u0378a.example:80", "character"),
        (38, "http://♥.example:80", "IDNA"),
        (39, "socks5://user:topsecret@h.example:1080", "scheme http"),
        (39, "ftp://user:topsecret@h.example:21", "scheme http"),
        (39, "topsecret://h.example:21", "scheme http"),
        (40, "https://user:topsecret@h.example:443", "scheme http"),
        (41, "http://user:topsecret@h.example:80\r\nX: y", "control"),
        (41, "http://user:top\tsecret@h.example:80", "control"),
        (41, "http://user:topsecret x@h.example:80", "blanks"),
        (41, "http://user:topsecret\x00@h.example:80", "control"),
        (41, "http://user:topsecret\u200b@h.example:80", "invisible"),
        (41, "http://user:topsecret%0D%0Ax@h.example:80", "control"),
        (41, "http://user%00:topsecret@h.example:80", "control"),
        (43, "http://user:topsecret@h.example:80/path", "path"),
        (43, "http://user:topsecret@h.example:80?q", "path"),
        (43, "http://h.example:80#topsecret", "path"),
        (43, "http://h.example:80/topsecret@x.example", "port"),
        (0, "", "characters"),
        (0, "   ", "characters"),
        (0, "http://", "host"),
        (0, "http://:topsecret@h.example:80", "user name"),
        (0, "http://@h.example:80", "user name"),
        (0, "http://user:%FF日topsecret@h.example", "UTF-8"),
        (0, "h.example:80:user:topsecret", "http://user:password@host:port"),
        (0, "http://user:topsecret@" + "h" * 64 + ".example:80", "host"),
        (0, "http://user:topsecret@" + "h." * 127 + "x:80", "host"),
        (0, "http://user:topsecret" + "x" * 5000 + "@h.example", "4096"),
        (0, "http://user:topsecret@h..example:80", "host"),
        (0, "http://user:topsecret@-h.example:80", "host"),
        (0, "http://user:topsecret@h%2e.example:80", "host"),
        (0, "http://user:topsecret@1.2.3.400:80", "IPv4"),
        (0, "http://user:topsecret@1.2.3:80", "IPv4"),
        (0, "http://user:topsecret@{session}.example:80", "not in the host"),
        (0, None, "text"),
        (0, 8080, "text"),
        (0, b"http://h.example:80", "text"),
        (0, ["http://topsecret.example:80"], "text"),
    ],
)
def test_bad_proxy_is_refused_without_its_password(case: int, text: Any, hint: str) -> None:
    """The error says what is expected and shows nothing that could be a secret."""
    assert hint in refusal(text)


def test_case_32_other_encoding_accepts_what_it_can_encode() -> None:
    """With HTTPPROXY_AUTH_ENCODING = 'utf-8' such credentials arrive intact."""
    endpoint = parse("http://us😀er:日本@h.example", Wire(auth_encoding="utf-8"))
    assert sent(endpoint, "utf-8") == ("http://h.example:80", "us😀er:日本")


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("https://u:p@h.example", "https://h.example:443"),
        ("socks5://u:p@h.example", "socks5://h.example:1080"),
        ("SOCKS5H://u:p@h.example:9", "socks5h://h.example:9"),
    ],
)
def test_cases_39_and_40_other_schemes_pass_where_the_handlers_can(text: str, server: str) -> None:
    """What the wire offers is accepted, with the scheme's own default port."""
    assert parse(text, EVERY_SCHEME).server == server


def test_case_36_ipv6_is_refused_where_the_resolver_cannot() -> None:
    """The error names the setting that makes IPv6 addresses work."""
    assert "TWISTED_DNS_RESOLVER" in refusal("user:topsecret@[::1]:80", Wire(ipv6=False))


def test_characters_that_a_handler_spoils_are_refused() -> None:
    """Better no crawl than one that connects to what stands before the slash."""
    assert "'/'" in refusal("http://user:topsecret%2F@h.example", Wire(garbled="/"))
    parse("http://user:pw@h.example", Wire(garbled="/"))


def test_place_stands_in_the_error() -> None:
    """In a list of thousands the user finds the bad one."""
    with pytest.raises(ConfigurationError, match=r"\(line 7\)$"):
        parse_proxy("h:0", setting="SESSION_FILTER_PROXIES", where="line 7")


# --- identity ------------------------------------------------------------------------------------


def test_key_is_of_the_address_and_user_not_of_the_password() -> None:
    """Health outlives a changed password; another user, port, host or scheme is another proxy."""
    base = parse("http://user:one@h.example:80")
    assert base.key == parse("http://user:two@H.example").key
    assert base != parse("http://user:two@h.example")
    assert base == parse("http://us%65r:one@h.example:80")
    assert hash(base) == hash(parse("http://user:one@h.example:80"))
    assert base != "http://user:one@h.example:80"
    others = [
        "user2:one@h.example:80",
        "user:one@h.example:81",
        "user:one@i.example:80",
        "h.example:80",
    ]
    keys = {parse(text).key for text in others} | {
        base.key,
        parse("https://user:one@h.example:80", EVERY_SCHEME).key,
    }
    assert len(keys) == 6
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("192.0.2.77:80", "192.0.2.0/24"),
        ("[2001:db8:1:2:3::4]:80", "2001:db8:1::/48"),
        ("proxy9.example:80", None),
        ("proxy.example9x:80", None),
    ],
)
def test_group_is_the_subnet_of_an_address(text: str, group: str | None) -> None:
    """/24 of IPv4, /48 of IPv6, none of a name."""
    assert parse(text).group == group


def test_credentials_never_show() -> None:
    """Neither str, repr, format nor a container of endpoints shows user name or password."""
    endpoint = parse("http://someuser:topsecret@h.example:80")
    shown = f"{endpoint} {endpoint!r} {[endpoint]} {endpoint.label} {endpoint.server}"
    assert "topsecret" not in shown
    assert "someuser" not in shown
    assert endpoint.credentials(SESSION) == ("someuser", "topsecret")
    assert parse("h.example:80").credentials(SESSION) is None


def test_endpoint_cannot_be_changed() -> None:
    """Sessions share endpoints, so none may alter one."""
    endpoint = parse("http://h.example:80")
    with pytest.raises(AttributeError):
        endpoint.port = 81  # type: ignore[misc]
    assert not hasattr(endpoint, "__dict__")
    assert pickle.loads(pickle.dumps(endpoint)) == endpoint


# --- masking -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:topsecret@h.example:80", "http://***@h.example:80"),
        ("x http://user:top/secret@h:80/a?b=c@d y", "x http://***@d y"),
        ("url='http://us%40er:topsecret@h:80'", "url='http://***@h:80'"),
        ("http:/user:topsecret@h", "http:/***@h"),
        ("no route to user:top@secret@h:1.", "no route to ***@h:1."),
        ("topsecretkey@gw.example:8000", "***@gw.example:8000"),
        ("topsecretkey@[::1]:8000", "***@[::1]:8000"),
        ("http://topsecretkey@gw.example", "http://***@gw.example"),
        (
            "('http://a:topsecret@h:1', 'socks5://b:topsecret@h:2')",
            "('http://***@h:1', 'socks5://***@h:2')",
        ),
        ("Proxy-Authorization: Basic dXNlcjp0b3BzZWNyZXQ=", "Proxy-Authorization: Basic ***"),
        ("basic dXNlcjp0b3BzZWNyZXQ", "basic ***"),
        ("https://medium.example/@writer/post", "https://medium.example/@writer/post"),
        ("mail me@home.example", "mail me@home.example"),
        ("https://shop.example/a:b?c=d", "https://shop.example/a:b?c=d"),
        (ValueError("http://u:topsecret@h"), "http://***@h"),
        ("http://topsecretkey@h:1,http://u:topsecret@i:2", "http://***@h:1,http://***@i:2"),
        ("https://a.example/@b,http://u:topsecret@i:2", "https://a.example/@b,http://***@i:2"),
    ],
)
def test_mask_hides_credentials_and_leaves_the_rest(text: object, masked: str) -> None:
    """Whatever quotes a proxy's URL can be logged once masked; ordinary addresses stay readable."""
    assert mask(text) == masked


def test_mask_hides_the_password_in_the_407_of_aiohttp() -> None:
    """aiohttp quotes the proxy's URL, password and all, when a proxy refuses the credentials."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run() -> str:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientHttpProxyError) as caught:
                await session.get(
                    "https://shop.example/", proxy=f"http://user:topsecret@127.0.0.1:{port}"
                )
        return str(caught.value)

    message = asyncio.run(run())
    assert "topsecret" in message  # else this test says nothing
    assert "topsecret" not in mask(message)
    assert "127.0.0.1" in mask(message)


@pytest.mark.parametrize(
    "piece", ["a", "http://", "http:/", "a:", "@", ":@", "a@", "://", "Basic "]
)
def test_mask_is_no_way_to_stop_the_crawl(piece: str) -> None:
    """A text of 50,000 suspicious characters is masked in a moment."""
    started = time.process_time()
    mask(piece * (50_000 // len(piece)))
    assert time.process_time() - started < 1


# --- fuzz ----------------------------------------------------------------------------------------

printable = st.characters(codec="latin-1", exclude_categories=["Cc"])
credential = st.text(printable, min_size=1, max_size=30)


@given(user=credential, password=credential)
def test_any_credentials_survive_escaped(user: str, password: str) -> None:
    """Percent-escaped, every printable Latin-1 credential reaches the proxy as it is."""
    plain = f"{user}:{password}"
    if "{" in plain:
        return
    text = "".join(f"%{byte:02X}" for byte in user.encode())
    secret = "".join(f"%{byte:02X}" for byte in password.encode())
    assert sent(parse(f"http://{text}:{secret}@h.example:80")) == ("http://h.example:80", plain)


raw = st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_categories=("C", "Z")), min_size=1
)


@given(user=raw, password=raw)
def test_any_credentials_survive_raw(user: str, password: str) -> None:
    """Unescaped, they do too, but for the characters that mean something in a URL."""
    user = user.replace(":", "").replace("%", "").replace("/", "x").lstrip("/") or "u"
    password = password.replace("%", "")
    if "{" in user + password:
        return
    endpoint = parse(f"http://{user}:{password}@h.example:80")
    assert sent(endpoint) == ("http://h.example:80", f"{user}:{password}")


pieces = st.sampled_from(
    [
        *("http", "https", "socks5", ":", "/", "//", "@", "[", "]", "%", "%4", "%0a", "#", "?"),
        *("{session}", "{session:", "}", "::1", "1.2.3.4", "h.example", "80", "0", "99999"),
        *("\r\n", " ", "\x00", "ü", "日", ".", "-"),
    ]
)


@given(before=st.lists(pieces, max_size=8), after=st.lists(pieces, max_size=8))
def test_any_text_gives_a_proxy_or_an_error_of_ours_without_the_password(
    before: list[str], after: list[str]
) -> None:
    """Nothing but `ConfigurationError` comes out, and a password put anywhere before '@' never shows."""
    text = "".join([*before, ":topsecret@", *after])
    endpoint, shown = None, ""
    try:
        endpoint = parse(text, EVERY_SCHEME)
    except ConfigurationError as error:
        shown = str(error)
    assert "topsecret" not in f"{shown} {endpoint} {endpoint!r}"
    if endpoint is not None:
        assert parse(endpoint.url(SESSION), EVERY_SCHEME).server == endpoint.server


@given(st.text())
def test_any_unicode_is_masked_and_parsed_without_other_errors(text: str) -> None:
    """No text makes the parser or the mask fail in another way."""
    mask(text)
    with suppress(ConfigurationError):
        parse(text, EVERY_SCHEME)
