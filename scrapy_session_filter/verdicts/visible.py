"""What a reader sees of a page, without a parser."""

from __future__ import annotations

_TAGS_LIMIT = 1500  # more tags than any page has that is nothing but a block
_CUTS_LIMIT = 500  # so with scripts, styles and comments


def visible_text(page: bytes, enough: int) -> bytes:
    """Return the text of a page's body outside tags, comments, scripts and styles, in lower case.

    Stops soon after ``enough`` bytes. A page of very many tags counts as full of text.
    """
    most = 4 * enough  # of a page of text that is read; one of scripts is read whole
    if len(page) > most:
        text = _visible(page[: page.rfind(b"<", 0, most)], enough)
        if len(text) > enough:
            return text
    return _visible(page, enough)


def _visible(page: bytes, enough: int) -> bytes:
    page = page.lower()
    body = page.find(b"<body")
    page = page[body:] if body >= 0 else without(page, b"<title", b"</title>")
    for opening, closing in _UNSEEN:
        page = without(page, opening, closing)
    filler = b""
    tags = page.count(b"<")
    if tags > _TAGS_LIMIT:
        page = b"<".join(page.split(b"<", _TAGS_LIMIT)[:_TAGS_LIMIT])
        filler = b"." * enough
    if tags == page.count(b">"):  # then text and tags take turns
        texts = page.replace(b">", b"<").split(b"<")[::2]
    else:
        texts = [piece[piece.find(b">") + 1 :] for piece in page.split(b"<")]
    text = b" ".join(texts)
    seen = b" ".join(text[: 2 * enough].split())
    if len(seen) <= enough:  # much of it is blank
        seen = b" ".join(text.split())
    return (seen + filler)[: 2 * enough]


_UNSEEN = (
    (b"<!--", b"-->"),
    (b"<script", b"</script>"),
    (b"<style", b"</style>"),
)


def without(page: bytes, opening: bytes, closing: bytes) -> bytes:
    """Cut out everything between an opening and its closing, or the end; not very often."""
    kept: list[bytes] = []
    at, start = 0, page.find(opening)
    while start >= 0 and len(kept) < _CUTS_LIMIT:
        kept.append(page[at:start])
        end = page.find(closing, start)
        if end < 0:
            return b"".join(kept)
        at = end + len(closing)
        start = page.find(opening, at)
    return b"".join((*kept, page[at:]))
