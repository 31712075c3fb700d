"""What a verdict costs, by kind and size of page.

Run as ``python benchmarks/detect_cost.py``. Times are microseconds of CPU, the best of several
rounds so that other processes hardly show; the first line calibrates: how long this machine takes
to lower 20 kB (about 6 µs where it has nothing else to do).
"""

from __future__ import annotations

import gzip
import time
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from scrapy.http import HtmlResponse

from scrapy_session_filter.verdicts import Answer, Judge

if TYPE_CHECKING:
    from collections.abc import Callable

HEADERS = {
    "content-type": ["text/html; charset=utf-8"],
    "server": ["nginx"],
    "date": ["Sun, 06 Nov 1994 08:49:37 GMT"],
    "set-cookie": ["sid=1; Path=/", "lang=en"],
    "cache-control": ["no-cache"],
}
SENTENCE = "The river turns here, and the old mill has not worked since the bridge was built. "
LINK = '<li class="item"><a href="/topic/{0}" data-id="{0}">Topic {0}</a></li>'
SCRIPT = "<script>window.dataLayer=window.dataLayer||[];function f{0}(a){{return a+{0}}}</script>"


def page(size: int, part: str) -> bytes:
    """Return a page of about ``size`` bytes made of one kind of part."""
    parts = (part.format(n) for n in range(size // len(part) + 1))
    body = "".join(parts)[:size]
    return (
        f"<!doctype html><html><head><title>Shop</title></head><body>{body}</body></html>".encode()
    )


def cases() -> dict[str, bytes]:
    """Return pages by name."""
    ordinary = {
        f"{kind} {kilobytes} kB": page(kilobytes * 1000, part)
        for kilobytes in (1, 5, 15, 60, 500)
        for kind, part in (("links", LINK), ("text", f"<p>{SENTENCE}</p>"), ("script", SCRIPT))
    }
    hostile = {
        "100,000 spaces": b" " * 100_000,
        "50,000 <": b"<" * 50_000,
        "20,000 captcha": b"captcha " * 20_000,
        "64 MB of one letter": b"a" * (64 << 20),
        "64 MB of tags": b"<a>" * ((64 << 20) // 3),
        "24 kB of <i>": b"<i>" * 8_000,
        "24 kB of &": b"&" * 24_000,
    }
    return ordinary | hostile


def bombs() -> dict[str, bytes]:
    """Return what becomes 64 MB, by coding; without the brotli package only gzip."""
    packed = {"gzip": gzip.compress(b" " * (64 << 20), 1)}
    with suppress(ImportError):
        packed["br"] = import_module("brotli").compress(b" " * (64 << 20), quality=2, lgwin=24)
    return packed


def best(run: Callable[[], object], rounds: int = 15, times: int = 20) -> float:
    """Return the microseconds of CPU that one call takes, undisturbed."""
    shortest = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(times):
            run()
        shortest = min(shortest, (time.process_time() - start) / times)
    return 1e6 * shortest


def main() -> None:
    """Print the costs as a table."""
    judge = Judge()
    print(f"calibration: {best(lambda: bytes(20_000).lower()):.1f} us to lower 20 kB")
    print(f"{'page':24} {'status 200':>12} {'status 403':>12}")
    for name, body in cases().items():
        costs = [
            best(lambda status=status, body=body: judge.answer(Answer(status, HEADERS, body)))  # type: ignore[misc]
            for status in (200, 403)
        ]
        print(f"{name:24} {costs[0]:12.1f} {costs[1]:12.1f}")
    for coding, body in bombs().items():
        bomb = HtmlResponse("http://x.example", headers={"Content-Encoding": coding}, body=body)
        cost = best(lambda bomb=bomb: judge.response(bomb))  # type: ignore[misc]
        print(f"{coding} bomb of 64 MB{cost:22.1f}")


if __name__ == "__main__":
    main()
