"""What the site can answer: a table of named answers, and the pages behind them."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HTML = "text/html; charset=utf-8"

FAULTS = ("", "close", "reset", "cut", "hang")
"""Ways to spoil an answer: close or reset the connection instead, stop in mid-body, stay silent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the site; ``name`` is what its record calls it.

    ``delay`` is in seconds; ``fault`` one of `FAULTS`; ``block`` says whether the visitor was
    refused the page (the world's own verdict, which the figures of a crawl are checked against).
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    fault: str = ""
    name: str = ""
    block: bool = False

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            msg = f"fault = {self.fault!r}: expected one of {FAULTS}"
            raise ValueError(msg)

    def compressed(self, coding: str) -> Answer:
        """Return the same answer in ``gzip`` or ``br``."""
        if coding == "gzip":
            body = gzip.compress(self.body, mtime=0)
        else:
            import brotli  # type: ignore[import-untyped]  # noqa: PLC0415 - the demo does without it

            body = brotli.compress(self.body)
        return replace(self, body=body, headers={**self.headers, "Content-Encoding": coding})


def page(title: str, content: str, *, status: int = 200, size: int = 0, **more: Any) -> Answer:
    """Return an HTML page, filled up with harmless text to ``size`` bytes."""
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n{content}\n"
    )
    end = "</body></html>\n"
    room = size - len(text.encode()) - len(end)
    filler = "<p>Plain oak, oiled by hand and built to be used for a long time.</p>\n"
    text += (filler * (room // len(filler) + 1))[: max(room, 0)] + end
    headers = {"Content-Type": HTML, **more.pop("headers", {})}
    return Answer(status=status, body=text.encode(), headers=headers, **more)


def answer_of(value: Answer | str | int | Mapping[str, Any]) -> Answer:
    """Turn an answer's name, its status, or its fields (``body`` a text) into the answer."""
    if isinstance(value, Answer):
        return value
    if isinstance(value, (str, int)):
        return named(str(value))
    fields = dict(value)
    coding = fields.pop("encoding", None)
    base = named(fields.pop("like")) if "like" in fields else Answer(name="custom")
    if isinstance(fields.get("body"), str):
        fields["body"] = fields["body"].encode()
    answer = replace(base, **fields)
    return answer.compressed(coding) if coding else answer


@cache
def named(name: str) -> Answer:
    """Return an answer of the table by its name; a number is a plain page of that status."""
    if name.isdigit():
        return page(f"Status {name}", "", status=int(name), name=name)
    if name not in _NAMED:
        msg = f"answer = {name!r}: expected a status or one of {', '.join(_NAMED)}"
        raise ValueError(msg)
    return replace(_NAMED[name](), name=name)


_WIDGET = '<div class="g-recaptcha" data-sitekey="6LeIxAcTAAAAAJcZVRqyHh71UMIEGNQ_MXjiZKhI"></div>'


def _captcha(**more: Any) -> Answer:
    content = (
        "<p>Please verify you are a human. We have detected unusual traffic.</p>\n"
        f'<form action="/captcha" method="post">{_WIDGET}<button>Continue</button></form>'
        '<script src="https://www.google.com/recaptcha/api.js" async></script>'
    )
    return page("Are you a robot?", content, block=True, **more)


def _challenge(**more: Any) -> Answer:
    content = (
        "<noscript>Enable JavaScript and cookies to continue</noscript>"
        '<script>window._cf_chl_opt={cvId:"3"};var a=document.createElement("script");'
        'a.src="/cdn-cgi/challenge-platform/h/b/orchestrate/chl_page/v1";</script>'
    )
    return page("Just a moment...", content, block=True, **more)


def _login() -> Answer:
    content = (
        '<form action="/login" method="post"><input name="user">'
        f'<input type="password" name="password">{_WIDGET}<button>Sign in</button></form>'
        '<a href="/">Home</a> <a href="/list/1">All products</a>'
    )
    return page("Sign in", content)


def _retry_after(status: int, title: str) -> Answer:
    return page(title, "", status=status, headers={"Retry-After": "1"}, block=True)


_NAMED: dict[str, Callable[[], Answer]] = {
    # refusals
    "forbidden": lambda: page("Forbidden", "", status=403, block=True),
    "unauthorized": lambda: page("Unauthorized", "", status=401, block=True),
    "captcha": _captcha,
    "captcha-gzip": lambda: _captcha().compressed("gzip"),
    "captcha-br": lambda: _captcha().compressed("br"),
    "captcha-403": lambda: _captcha(status=403),
    "captcha-redirect": lambda: Answer(302, b"", {"Location": "/captcha"}, block=True),
    "captcha-refresh": lambda: replace(
        page("One moment", '<meta http-equiv="refresh" content="0; url=/captcha">'), block=True
    ),
    "challenge": _challenge,
    "challenge-503": lambda: _challenge(status=503),
    "too-many": lambda: _retry_after(429, "Too many requests"),
    "busy": lambda: _retry_after(503, "Please come back later"),
    "block-close": lambda: Answer(fault="close", block=True),
    "block-hang": lambda: Answer(fault="hang", block=True),
    # the site's own trouble
    "error": lambda: page("Internal error", "", status=500),
    "unavailable": lambda: page("Unavailable", "", status=503),
    "close": lambda: Answer(fault="close"),
    "reset": lambda: Answer(fault="reset"),
    "cut": lambda: replace(page("Cut", "", size=4000), fault="cut"),
    "hang": lambda: Answer(fault="hang"),
    "slow": lambda: replace(page("Slow", ""), delay=1.0),
    # pages
    "ok": lambda: page("A page", '<a href="/">Home</a>'),
    "login": _login,
    "not-found": lambda: page("Not found", "", status=404),
}
