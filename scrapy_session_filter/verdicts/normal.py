"""What is normal at a site: an answer that is the same small page for every URL is a soft block.

A site that no longer serves a visitor often says so with status 200 and one page for all. That
shows without any marker: a session gets the same small page for `STREAK` different URLs in a row
while other sessions get different ones. The same page through every session is the site's own; so
is one that sessions get among others (an empty search result).

Everything is bounded: a few numbers for each page and session, of which those not used for longest
drop out.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from scrapy_session_filter.verdict import Kind, Strength, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from scrapy_session_filter.verdicts.answer import Answer

Value = TypeVar("Value")

STREAK = 3  #: different URLs in a row with the same page
SMALL = 16 * 1024  #: bytes; a longer page is content
_WITNESSES = 2  # sessions, or pages, that it takes to know something
_ASKED = 50  # other sessions, the latest, that are asked what they got
_SITES, _SESSIONS, _PAGES = 1000, 500, 200  # remembered: sites; sessions and pages of each
_WINDOW = 4  # last pages of a session that are remembered
_DIGITS = frozenset("0123456789")
_BUCKETS = 32  # sizes are counted by powers of two


@dataclass(slots=True)
class _Page:
    """One page as sessions get it: who got nothing else, and who got it among others."""

    alone: set[str] = field(default_factory=set)
    among_others: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Site:
    sessions: OrderedDict[str, deque[tuple[int, int]]] = field(default_factory=OrderedDict)
    pages: OrderedDict[int, _Page] = field(default_factory=OrderedDict)
    sizes: list[int] = field(default_factory=lambda: [0] * _BUCKETS)

    def usual_size(self) -> int:
        """Return the median size of good answers, rounded up to a power of two."""
        half, seen = sum(self.sizes) / 2, 0
        for power, count in enumerate(self.sizes):
            seen += count
            if seen >= half:
                return 1 << power
        return 0


class Normal:
    """What answers of each site usually look like, session by session."""

    def __init__(self) -> None:
        self._sites: OrderedDict[str, _Site] = OrderedDict()

    def reconsider(self, site: str, session: str, answer: Answer, verdict: Verdict) -> Verdict:
        """Return the verdict on an answer that this session of the site got, or a soft block.

        Only a weak OK with status 200 can turn into one: evidence for or against a block stands.
        """
        if verdict.kind is not Kind.OK or verdict.strength is Strength.STRONG:
            return verdict
        if answer.status != 200 or answer.body is None or answer.method != "GET":
            return verdict
        known = _recent(self._sites, site, _Site, _SITES)
        page, url = fingerprint(answer), hash(answer.requested_url)
        self._note(known, session, page, url)
        size = len(answer.body)
        if size <= SMALL and _is_soft_block(known, session, page):
            evidence = f"the same {size} bytes for every URL; usual: {known.usual_size()}"
            return Verdict(Kind.BLOCKED, "same-page", Strength.WEAK, evidence=evidence)
        known.sizes[min(size.bit_length(), _BUCKETS - 1)] += 1
        return verdict

    @staticmethod
    def _note(known: _Site, session: str, page: int, url: int) -> None:
        last = _recent(known.sessions, session, lambda: deque(maxlen=_WINDOW), _SESSIONS)
        before = last[-1][1] if last else page
        if before != page and len(last) > 1 and last[-2][1] != before:
            # it came between two others: the site serves it to visitors in good standing
            _recent(known.pages, before, _Page, _PAGES).among_others.add(session)
        last.append((url, page))
        streak = list(last)[-STREAK:]
        same = all(seen == page for _, seen in streak)
        if same and len({address for address, _ in streak}) >= STREAK:
            _recent(known.pages, page, _Page, _PAGES).alone.add(session)


def _is_soft_block(known: _Site, session: str, page: int) -> bool:
    """Whether this page, for this session, is what is served instead of pages."""
    about = known.pages.get(page)
    if about is None or len(about.among_others) >= _WITNESSES:
        return False
    if session not in about.alone and len(about.alone) < _WITNESSES:
        return False
    others = {
        seen
        for other in islice(reversed(known.sessions), _ASKED)
        if other != session
        for _, seen in known.sessions[other]
        if seen != page
    }
    return len(others) >= _WITNESSES


def fingerprint(answer: Answer) -> int:
    """Return a number for what a page says, without the parts that change with each request.

    Of a small page: title and visible words without digits (request ids, times, addresses). JSON
    and the like are compared byte for byte, pages that are long or full of links by title and
    length.
    """
    body = answer.body or b""
    if len(body) > SMALL or answer.is_rich:
        said = f"{answer.title} {len(body)}".encode()
    elif answer.is_data:
        said = body
    else:
        words = f"{answer.title} {answer.prose}".split()
        said = " ".join(word for word in words if _DIGITS.isdisjoint(word)).encode()
    return int.from_bytes(blake2b(said, digest_size=8).digest(), "big")


def _recent(
    kept: OrderedDict[str, Value] | OrderedDict[int, Value],
    key: str | int,
    make: Callable[[], Value],
    limit: int,
) -> Value:
    """Return the value of a key, made if need be, and drop the one not used for longest."""
    store: OrderedDict[str | int, Value] = kept  # type: ignore[assignment]
    if key in store:
        store.move_to_end(key)
        return store[key]
    value = store[key] = make()
    if len(store) > limit:
        store.popitem(last=False)
    return value
