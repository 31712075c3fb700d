"""Headers as detectors read them: lower-case names, lists of texts, whatever they come as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

VALUE_LIMIT = 4096  #: characters of one value
VALUES_LIMIT = 200  #: values of one header: a site may set 50,000 cookies


class ScrapyHeaders(Mapping[str, list[str]]):
    """A view of Scrapy's Headers that reads what is asked for, and only that.

    Scrapy keeps lists of bytes under bytes in title case; its own methods normalise every name and
    value again, which costs more than all that is asked of most answers.
    """

    def __init__(self, headers: dict[bytes, list[bytes]]) -> None:
        self._headers = headers

    def among(self, names: frozenset[bytes]) -> Iterator[str]:
        """Return the lower-case names of those headers that are among ``names`` (`kept_as`)."""
        return map(_lowered, names.intersection(self._headers))

    def first(self, name: str) -> str:
        """Return the first value of a header by its lower-case name, or an empty string."""
        values = dict.get(self._headers, kept_as(name))
        return values[0].decode("latin-1")[:VALUE_LIMIT] if values else ""

    def __getitem__(self, name: str) -> list[str]:
        """Return the values of a header by its lower-case name."""
        values = dict.__getitem__(self._headers, kept_as(name))
        return [value.decode("latin-1")[:VALUE_LIMIT] for value in values[:VALUES_LIMIT]]

    def __contains__(self, name: object) -> bool:
        """Whether there is such a header."""
        return isinstance(name, str) and dict.__contains__(self._headers, kept_as(name))

    def __iter__(self) -> Iterator[str]:
        """Yield the lower-case names."""
        return map(_lowered, dict.__iter__(self._headers))

    def __len__(self) -> int:
        """Return the number of names."""
        return dict.__len__(self._headers)


@lru_cache(maxsize=256)
def kept_as(name: str) -> bytes:
    """Return a header's name in Scrapy's form."""
    return name.title().encode("latin-1", "replace")


@lru_cache(maxsize=1024)  # sites may send any name
def _lowered(name: bytes) -> str:
    return name.decode("latin-1").lower()


def plain_headers(headers: Any) -> Mapping[str, list[str]]:
    """Return headers as lower-case names and lists of values, whatever they come as.

    Takes Scrapy's Headers, a mapping of texts or bytes to one value or several, or nothing.
    """
    if isinstance(headers, dict) and hasattr(headers, "normkey"):  # Scrapy's: kept in one form
        return ScrapyHeaders(headers)
    try:
        return {
            _text(name).lower(): [_text(value)[:VALUE_LIMIT] for value in _several(values)]
            for name, values in headers.items()
        }
    except Exception:  # noqa: BLE001 - a foreign object may raise anything; then it has no headers
        return {}


def _several(values: Any) -> list[Any]:
    if isinstance(values, (list, tuple)):
        return list(values[:VALUES_LIMIT])
    return [] if values is None else [values]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""
