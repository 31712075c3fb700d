"""What a header of a session may be, whether an identity source gave it or a store had kept it."""

from __future__ import annotations

import re

MAX_VALUE = 1024
"""Characters a header value may have; longer ones are no browser's."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, 5.6.2
_LATIN = re.compile(r"[\x20-\x7e\xa0-\xff]+")  # Latin-1 without control characters
_NOT_HEADERS_OF_A_BROWSER = {
    "accept-encoding": "Scrapy's HttpCompressionMiddleware says what it can decode",
    "connection": "it belongs to the connection",
    "content-length": "it belongs to the request",
    "cookie": "the session's cookie jar sends it",
    "host": "it belongs to the request",
    "proxy-authorization": "the session's proxy brings it",
    "transfer-encoding": "it belongs to the request",
}


class UnsendableHeaders(ValueError):  # noqa: N818 - names the headers
    """A header set cannot be sent as it is; the message says what one must be."""


def check_header(name: object, value: object) -> None:
    """Raise `UnsendableHeaders` if a header cannot be sent as it is, or is no browser's to send."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        msg = f"header names of letters, digits and hyphens, not {name!r:.40}"
        raise UnsendableHeaders(msg)
    if why := _NOT_HEADERS_OF_A_BROWSER.get(name.lower()):
        msg = f"no {name} header: {why}"
        raise UnsendableHeaders(msg)
    if (
        not isinstance(value, str)
        or not value.strip()
        or len(value) > MAX_VALUE
        or not _LATIN.fullmatch(value)
    ):
        msg = f"for {name} 1 to {MAX_VALUE} Latin-1 characters without control characters"
        raise UnsendableHeaders(msg)
