"""What is read from a Redis server, where others may have written too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.stores.base import MAX_ROW_BYTES
from scrapy_session_filter.stores.codec import decode, text_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scrapy_session_filter.session import Row

logger = logging.getLogger(__name__)


def intact(site: str, found: Iterable[tuple[str, bytes | None]]) -> Iterator[Row]:
    """Yield a site's sessions from texts by id; a warning tells of each that is junk."""
    for id_, data in found:
        row = None if data is None else decoded(data, MAX_ROW_BYTES)
        if row is None:
            continue
        exit_ = row.get("exit")
        if row.get("site") == site and row.get("id") == id_ and (exit_ == id_ or _is_key(exit_)):
            yield row
        else:
            logger.warning("A saved session of %r is not of its place and left out", site)


def decoded(data: bytes, limit: int) -> dict[str, Any] | None:
    """Return a JSON object that anybody may have put there, or None, with a warning, for junk."""
    try:
        return decode(data, limit)
    except InvalidRow as error:
        logger.warning("A saved value is damaged and left out: %s", error)
        return None


def text(value: bytes) -> str:
    """Return a key; what is not UTF-8 is nobody's and matches nothing."""
    return value.decode(errors="replace")


def _is_key(value: object) -> bool:
    try:
        text_key(value)
    except InvalidRow:
        return False
    return True
