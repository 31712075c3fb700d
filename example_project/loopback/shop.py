"""The pages of the site: a shop, and paths that help to test."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from loopback.answers import Answer, named, page

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback.rules import Visit

PER_LIST = 20


class Shop:
    """``products`` products on list pages of `PER_LIST`, each page at least ``size`` bytes long."""

    def __init__(self, products: int = 320, size: int = 1500) -> None:
        self.products = products
        self.size = size
        self.lists = -(-products // PER_LIST)
        self._makers: dict[str, Callable[[str], Answer | None]] = {
            "": self._index,
            "list": self._list,
            "product": self._product,
            "page": self._any,
            "size": _bytes,
            "slow": _slow,
            "answer": named,
            "captcha": lambda _: named("captcha"),
            "login": lambda _: named("login"),
            "app": _app,
            "data": self._data,
            "robots.txt": _robots,
        }
        self._page = lru_cache(maxsize=10_000)(self._make)

    def answer(self, visit: Visit) -> Answer:
        """Return the page of a path; paths are listed in `Site`."""
        path = urlsplit(visit.path).path
        kind, _, rest = path[1:].partition("/")
        if kind == "echo":
            return _echo(visit)
        if kind == "redirect":
            query = dict(parse_qsl(urlsplit(visit.path).query))
            return _redirect(query.get("to", "/"), int(query.get("status", "302")))
        return self._page(kind, rest)

    def _make(self, kind: str, rest: str) -> Answer:
        make = self._makers.get(kind)
        return (make(rest) if make else None) or named("404")

    def _index(self, rest: str) -> Answer | None:
        if rest:
            return None
        return page("The shop", _links("list", 1, self.lists), size=self.size, name="index")

    def _list(self, rest: str) -> Answer | None:
        number = _number(rest)
        if not 1 <= number <= self.lists:
            return None
        first = (number - 1) * PER_LIST + 1
        last = min(first + PER_LIST - 1, self.products)
        return page(f"List {number}", _links("product", first, last), size=self.size, name="list")

    def _product(self, rest: str) -> Answer | None:
        number = _number(rest)
        if not 1 <= number <= self.products:
            return None
        content = (
            f'<div class="product" data-sku="{number:05d}"><h2>Chair {number}</h2>'
            f'<span class="price">{20 + number * 37 % 400}.90</span></div><a href="/">Home</a>'
        )
        return page(f"Chair {number}", content, size=self.size, name="product")

    def _any(self, rest: str) -> Answer:
        return page(f"Page {rest}", '<a href="/">Home</a>', size=self.size, name="page")

    def _data(self, rest: str) -> Answer | None:
        number = _number(rest)
        if not 1 <= number <= self.products:
            return None
        chair = {"name": f"Chair {number}", "price": f"{20 + number * 37 % 400}.90"}
        headers = {"Content-Type": "application/json"}
        return Answer(body=json.dumps(chair).encode(), headers=headers, name="data")


def _app(rest: str) -> Answer:
    """Return a page that is empty without JavaScript: it fetches its data, and remembers the visit."""
    script = f"""
        fetch("/data/{_number(rest)}").then(answer => answer.json()).then(chair => {{
            document.querySelector("main").innerHTML =
                `<div class="product"><h2>${{chair.name}}</h2>`
                + `<span class="price">${{chair.price}}</span></div>`;
            localStorage.setItem("last", chair.name);
            document.cookie = "seen={_number(rest)}; path=/; max-age=3600";
        }});"""
    return page("The shop", f"<main>Loading ...</main><script>{script}</script>", name="app")


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _bytes(rest: str) -> Answer:
    return page(f"{rest} bytes", "", size=_number(rest), name="page")


def _slow(rest: str) -> Answer:
    return replace(page("Slow", ""), delay=float(rest), name="slow")


def _robots(_: str) -> Answer:
    body = b"User-agent: *\nDisallow: /private/\n"
    return Answer(body=body, headers={"Content-Type": "text/plain"}, name="robots")


def _links(kind: str, first: int, last: int) -> str:
    return "\n".join(
        f'<a class="{kind}" href="/{kind}/{n}">{n}</a>' for n in range(first, last + 1)
    )


def _echo(visit: Visit) -> Answer:
    seen = {
        "exit": visit.exit,
        "direct": visit.direct,
        "method": visit.method,
        "url": visit.url,
        "headers": visit.headers,
        "body": visit.body.decode("latin-1"),
    }
    return Answer(
        body=json.dumps(seen).encode(), headers={"Content-Type": "application/json"}, name="echo"
    )


@cache
def _redirect(to: str, status: int) -> Answer:
    return Answer(status, b"", {"Location": to}, name="redirect")
