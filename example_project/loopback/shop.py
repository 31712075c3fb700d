"""The pages of the site: a shop, and paths that help to test."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from loopback.answers import Answer, named, page

if TYPE_CHECKING:
    from loopback.site import Visit

PER_LIST = 20


class Shop:
    """``products`` products on list pages of `PER_LIST`, each page at least ``size`` bytes long."""

    def __init__(self, products: int = 320, size: int = 1500) -> None:
        self.products = products
        self.size = size
        self.lists = -(-products // PER_LIST)
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
        number = int(rest) if rest.isdigit() else 0
        if kind == "" and not rest:
            return self._index()
        if kind == "list" and 1 <= number <= self.lists:
            return self._list(number)
        if kind == "product" and 1 <= number <= self.products:
            return self._product(number)
        if kind == "page" and rest:
            return page(f"Page {rest}", '<a href="/">Home</a>', size=self.size, name="page")
        if kind == "size":
            return page(f"{number} bytes", "", size=number, name="page")
        if kind == "slow":
            return replace(page("Slow", ""), delay=float(rest), name="slow")
        if kind == "answer":
            return named(rest)
        return _FIXED[path]() if (path := f"{kind}/{rest}".rstrip("/")) in _FIXED else named("404")

    def _index(self) -> Answer:
        return page("The shop", _links("list", 1, self.lists), size=self.size, name="index")

    def _list(self, number: int) -> Answer:
        first = (number - 1) * PER_LIST + 1
        last = min(first + PER_LIST - 1, self.products)
        return page(f"List {number}", _links("product", first, last), size=self.size, name="list")

    def _product(self, number: int) -> Answer:
        content = (
            f'<div class="product" data-sku="{number:05d}"><h2>Chair {number}</h2>'
            f'<span class="price">{20 + number * 37 % 400}.90</span></div><a href="/">Home</a>'
        )
        return page(f"Chair {number}", content, size=self.size, name="product")


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


_FIXED = {
    "captcha": lambda: named("captcha"),
    "login": lambda: named("login"),
    "robots.txt": lambda: Answer(
        body=b"User-agent: *\nDisallow: /private/\n",
        headers={"Content-Type": "text/plain"},
        name="robots",
    ),
}
