"""What a reader sees of a page, without a parser."""

from __future__ import annotations

_TAGS_LIMIT = 1500  # more tags than any page has that is nothing but a block


def visible_text(page: bytes, enough: int) -> bytes:
    """Return the text of a lower-case page outside tags, comments, scripts, styles and the title.

    Stops soon after ``enough`` bytes. A page of very many tags counts as full of text.
    """
    for opening, closing in _UNSEEN:
        page = _without(page, opening, closing)
    pieces = page.split(b"<", _TAGS_LIMIT)
    if len(pieces) > _TAGS_LIMIT:
        return b"." * enough
    seen, length = [], 0
    for piece in pieces:
        text = piece[piece.find(b">") + 1 :].strip()
        if text:
            seen.append(text)
            length += len(text)
            if length > enough:
                break
    return b" ".join(seen)[: 2 * enough]


_UNSEEN = (
    (b"<!--", b"-->"),
    (b"<script", b"</script>"),
    (b"<style", b"</style>"),
    (b"<title", b"</title>"),
)


def _without(page: bytes, opening: bytes, closing: bytes) -> bytes:
    """Cut out everything between an opening and its closing, or the end."""
    kept, at, start = [], 0, page.find(opening)
    while start >= 0:
        kept.append(page[at:start])
        end = page.find(closing, start)
        if end < 0:
            return b"".join(kept)
        at = end + len(closing)
        start = page.find(opening, at)
    return b"".join((*kept, page[at:]))
