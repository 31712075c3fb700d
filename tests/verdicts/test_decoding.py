"""Content codings are undone within bounds, or the answer is judged without its body."""

from __future__ import annotations

import gzip
import sys
import zlib
from random import Random
from typing import TYPE_CHECKING

import pytest
from scrapy.http import Response

from scrapy_session_filter.verdict import Kind
from scrapy_session_filter.verdicts import judge
from scrapy_session_filter.verdicts.decoding import DECODED_LIMIT, decoded

from .pages import html

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = html("<p>Wait</p>", "Just a moment...")


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def brotli(data: bytes) -> bytes:
    return bytes(pytest.importorskip("brotli").compress(data))


def zstd(data: bytes) -> bytes:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return bytes(pytest.importorskip(name).compress(data))


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli),
    ("zstd", zstd),
    ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    ("identity", bytes),
    ("GZIP", gzip.compress),
]


@pytest.mark.parametrize(("coding", "pack"), PACKERS)
def test_block_page(coding: str, pack: Callable[[bytes], bytes]) -> None:
    """A challenge is found under any coding."""
    response = Response("https://x.example", headers={"Content-Encoding": coding}, body=pack(PAGE))
    assert judge(response).vendor == "cloudflare"


@pytest.mark.parametrize(("coding", "pack"), PACKERS[:4])
def test_cut_off(coding: str, pack: Callable[[bytes], bytes]) -> None:
    """A challenge is found even if the end of its coded body is missing."""
    body = pack(PAGE + b"<p>.</p>" * 50)[:-4]
    response = Response("https://x.example", headers={"Content-Encoding": coding}, body=body)
    assert judge(response).vendor == "cloudflare"


@pytest.mark.parametrize(("coding", "pack"), PACKERS[:6])
def test_bomb(coding: str, pack: Callable[[bytes], bytes]) -> None:
    """A small body that would become a huge one is read only so far."""
    body = decoded(pack(b"\0" * (1 << 24)), [coding])
    assert body is not None
    assert 0 < len(body) <= DECODED_LIMIT


def test_brotli_windows() -> None:
    """A body is read alike whatever window it was packed with, and however long it is."""
    library = pytest.importorskip("brotli")
    chance = Random(1)
    words = [chance.randbytes(3).hex().encode() for _ in range(400)]
    for window in range(10, 25):
        for length in (1, 300, 30_000):
            page = b" ".join(chance.choices(words, k=length))
            packed = library.compress(page, quality=5, lgwin=window)
            assert decoded(packed, ["br"]) == page[:DECODED_LIMIT]
    assert decoded(b"", ["br"]) is None


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "pack200", "gzip," * 9])
def test_unreadable(coding: str) -> None:
    """What cannot be read is judged by status and headers."""
    for status, kind in ((200, Kind.OK), (403, Kind.BLOCKED)):
        response = Response(
            "https://x.example", status, headers={"Content-Encoding": coding}, body=b"\xff" + PAGE
        )
        assert judge(response).kind is kind


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without brotli and zstd libraries such bodies are not read."""
    for name in ("brotli", "brotlicffi", "compression", "backports.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    assert decoded(b"x", ["br"]) is None
    assert decoded(b"x", ["zstd"]) is None
