"""What is read from a Redis server, where others may have written too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.stores.base import MAX_ROW_BYTES
from scrapy_session_filter.stores.codec import decode, row_key

if TYPE_CHECKING:
    from scrapy_session_filter.session import Row

logger = logging.getLogger(__name__)


def intact(site: str, found: dict[bytes, bytes]) -> list[Row]:
    """Return a site's sessions from texts by id; a warning tells of each that is junk."""
    pairs = [(id_, decoded(data, MAX_ROW_BYTES)) for id_, data in found.items()]
    return [row for id_, row in pairs if row is not None and _is_of(row, site, id_)]


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


def _is_of(row: Row, site: str, id_: bytes) -> bool:
    try:
        fits = row_key(row)[:2] == (site, text(id_))
    except InvalidRow:
        fits = False
    if not fits:
        logger.warning("A saved session of %r is not of its place and left out", site)
    return fits
