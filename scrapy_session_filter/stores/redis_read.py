"""What is read from a Redis server, where others may have written too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.rows import read_whole
from scrapy_session_filter.stores.codec import decode, decode_rows, text_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from scrapy_session_filter.session import Row

logger = logging.getLogger(__name__)


def intact(site: str, found: Iterable[tuple[str, bytes | None]]) -> Iterator[Row]:
    """Yield a site's sessions from texts by id; a warning tells of each that is junk."""
    texts = {id_: data for id_, data in found if data is not None}
    for id_, row in zip(texts, decode_rows([*texts.values()]), strict=True):
        if row is None:
            logger.warning("A saved session of %r is damaged and left out", site)
            continue
        exit_ = row.get("exit")
        if row.get("site") == site and row.get("id") == id_ and (exit_ == id_ or _is_key(exit_)):
            yield row
        else:
            logger.warning("A saved session of %r is not of its place and left out", site)


def whole(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield sessions of which nothing is unread; a warning tells of each that holds junk."""
    for row in map(_whole, rows):
        if row is not None:
            yield row


def _whole(row: Row) -> Row | None:
    try:
        return read_whole(row)
    except InvalidRow:
        logger.warning("A saved session of %r is damaged and left out", row["site"])
        return None


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
