"""Undo a Content-Encoding for judging: a bounded prefix, and never an exception.

Scrapy's own HttpCompressionMiddleware decodes what spiders read. This is for answers that are
judged outside a crawl, or in an encoding that Scrapy could not read.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DECODED_LIMIT = 128 * 1024  #: bytes of the decoded body; a bomb costs no more than a page
_CODED_LIMIT = 256 * 1024  # bytes of the coded one that are looked at
_CODINGS_LIMIT = 3  # layers; RFC 9110 allows several, real sites use one


class _Incremental(Protocol):
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def decoded(body: bytes, codings: Sequence[str]) -> bytes | None:
    """Return at most `DECODED_LIMIT` bytes of ``body`` with its codings undone.

    ``codings`` are the tokens of Content-Encoding in the order they were applied. Returns None
    where the body cannot be read: an unknown coding, a missing library (brotli and zstd are
    optional), or bytes that are not what the header says.
    """
    wanted = [coding for coding in codings if coding not in ("", "identity")]
    if len(wanted) > _CODINGS_LIMIT:
        return None
    for coding in reversed(wanted):
        decoder = _DECODERS.get(coding)
        if decoder is None:
            return None
        try:
            body = decoder(body[:_CODED_LIMIT])[:DECODED_LIMIT]
        except Exception:  # noqa: BLE001 - each library has errors of its own; all mean "unreadable"
            return None
    return body


def _gzip(data: bytes) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, DECODED_LIMIT)


def _deflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, DECODED_LIMIT)
    except zlib.error:  # many servers send the raw form that browsers also accept
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, DECODED_LIMIT)


def _brotli(data: bytes) -> bytes:
    try:
        library = import_module("brotli")
    except ImportError:
        library = import_module("brotlicffi")
    # A decoder hands nothing out before its window (up to 16 MB) is full. Its size stands in the first
    # bits (RFC 7932, 9.1). What is wanted here fits into 256 kB, which no reference can leave: less.
    if data[0] & 1 and data[0] & 0b1110:
        data = bytes((data[0] & 0xF0 | 0b0011,)) + data[1:]
    # 100 bytes can hold 64 MB: a library older than 1.2, without the limit, is not used (TypeError)
    return bytes(library.Decompressor().process(data, output_buffer_limit=DECODED_LIMIT))


def _zstd(data: bytes) -> bytes:
    for name in ("compression.zstd", "backports.zstd"):  # the standard library has it from 3.14
        try:
            decompressor: _Incremental = import_module(name).ZstdDecompressor()
        except ImportError:
            continue
        return decompressor.decompress(data, DECODED_LIMIT)
    stream = import_module("zstandard").ZstdDecompressor().stream_reader(data)
    return bytes(stream.read(DECODED_LIMIT))


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
