"""What is read from a store file, as far as its checksums hold."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from scrapy_session_filter.stores.codec import decode, decode_rows, is_intact

if TYPE_CHECKING:
    import sqlite3

    from scrapy_session_filter.session import Row

logger = logging.getLogger(__name__)


def read_states(
    db: sqlite3.Connection, kind: str, limit: int, key: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return learnt states by key, of one kind (``site`` or ``endpoint``) and maybe one key."""
    found = db.execute(
        "SELECT key, data, sum FROM states WHERE kind = ? AND (? IS NULL OR key = ?)",
        (kind, key, key),
    )
    return {
        name: decode(data, limit, own=True)
        for name, data, sum_ in found
        if is_intact(sum_, "states", (kind, name), data)
    }


def intact(found: list[tuple[int, str, str, str, bytes, bytes]]) -> list[Row]:
    """Return sessions from (n, site, id, exit, data, sum); a warning tells of damaged ones."""
    texts = [
        data
        for _, site, id_, exit_, data, sum_ in found
        if is_intact(sum_, "sessions", (site, id_, exit_), data)
    ]
    rows = [row for row in decode_rows(texts, own=True) if row is not None]
    if len(rows) < len(found):
        logger.warning("%d saved sessions are damaged and left out", len(found) - len(rows))
    return rows
