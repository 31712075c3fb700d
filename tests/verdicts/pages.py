"""Pages written for these tests; nothing of any real site is in them."""

from __future__ import annotations

from scrapy_session_filter.verdicts import Answer

LINKS = "".join(f'<li><a href="/topic/{n}">Topic number {n}</a></li>' for n in range(30))
PROSE = "The river turns here, and the old mill has not worked since the bridge was built. " * 40


def html(body: str, title: str = "", head: str = "") -> bytes:
    """Return a page with this in its body."""
    heading = f"<title>{title}</title>" if title else ""
    return f"<!doctype html><html><head>{heading}{head}</head><body>{body}</body></html>".encode()


def article(about: str, title: str = "How sites guard themselves") -> bytes:
    """Return a page of text and links that says ``about`` in passing."""
    return html(
        f"<article><h1>On {about}</h1><p>{PROSE}</p><p>{about}</p><ul>{LINKS}</ul></article>", title
    )


def answer(
    body: bytes | str = b"",
    status: int = 200,
    url: str = "https://shop.example/item/7",
    **headers: str,
) -> Answer:
    """Return an answer; header names are given with underscores."""
    return Answer(
        status,
        {name.replace("_", "-"): [value] for name, value in headers.items()},
        body.encode() if isinstance(body, str) else body,
        url,
    )
