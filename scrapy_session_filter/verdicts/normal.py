"""What is normal at a site: an answer that is the same small page for every URL is a soft block.

A site that no longer serves a visitor often says so with status 200 and one page for all. That
shows without any marker: a session gets the same small page for `STREAK` different URLs in a row
while other sessions get different ones for URLs of that kind. The same page through every session
is the site's own; so is one that sessions get among others (an empty search result).

Two answers to one session are compared by length and title first: that tells most pages apart, and
only those that look alike are read. Everything is bounded: a few numbers for each session and page,
of which those not used for longest drop out.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from scrapy_session_filter.verdict import Kind, Strength, Verdict
from scrapy_session_filter.verdicts.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Key = TypeVar("Key")
Value = TypeVar("Value")

STREAK = 3  #: different URLs in a row with the same page
SMALL = 16 * 1024  #: bytes; a longer page is content
_KEPT = 4 * 1024  # bytes of a session's last page; of a longer one it is not known what it said
_ALIKE = 64  # bytes that two lengths of one page may differ by: an id, a time, an address
_CHANGING = 4  # words with digits: more are not an id and a time, but a price list
_WITNESSES = 2  # sessions that it takes to know something
_ASKED = 16  # other sessions, the latest that got different pages, that are asked what they got
_PATIENCE = 4  # times the same page, after which a session is no witness that there are others
_SITES, _SESSIONS, _PAGES = 1000, 500, 200  # remembered: sites; sessions and pages of each
_MEANWHILE = 50  # answers of a site
_FORMS, _GETTERS = 8, 16  # pages of one title; sessions that got one
_DIGITS = frozenset("0123456789")
_NUMBER = re.compile(r"(?<![a-z0-9])[0-9]+(?![a-z0-9])")  # not a part of a request's id
_BUCKETS = 32  # sizes are counted by powers of two


@dataclass(slots=True)
class _Visitor:
    """A session's last page, and for which URLs in a row it has got it."""

    title: str = ""
    size: int = -1  # none yet
    url: str = ""
    urls: set[int] = field(default_factory=set)
    times: int = 0
    since: int = 0  # how many answers the site had given when it first got it, and
    before: int = 0  # when it first got the page before
    page: int | None = None  # what it says, known once a second one looked alike;
    body: int | None = None  # its hash, once that is known, and
    kept: tuple[bytes, str] | None = None  # a small one with its type, until then

    def may_have_got(self, title: str, size: int) -> bool:
        """Whether a page of this title and length may be the last one again."""
        return title == self.title and -_ALIKE <= size - self.size <= _ALIKE

    def read(self) -> None:
        """Find out what the last page said, if that can still be told."""
        if self.kept is not None:
            body, kind = self.kept
            self.page = fingerprint(Answer(200, {"content-type": [kind]}, body, self.url))
            self.body = hash(body)


@dataclass(slots=True)
class _Suspect:
    """A page that sessions got for `STREAK` URLs in a row: its length, and which sessions."""

    size: int
    sessions: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Site:
    answers: int = 0
    visitors: OrderedDict[str, _Visitor] = field(default_factory=OrderedDict)
    #: sessions that get different pages, the latest last
    various: OrderedDict[str, None] = field(default_factory=OrderedDict)
    #: small pages by title and length: the latest sessions that got them
    getters: OrderedDict[tuple[str, int], deque[str]] = field(default_factory=OrderedDict)
    #: by title and fingerprint
    suspects: OrderedDict[str, dict[int, _Suspect]] = field(default_factory=OrderedDict)
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
        body = answer.body
        if answer.status != 200 or body is None or answer.method != "GET":
            return verdict
        if body and not answer.is_text:
            return verdict  # a placeholder image for whatever has no picture
        known = _recent(self._sites, site, _Site, _SITES)
        suspect = _note(known, session, answer, body)
        if suspect is not None and known.various and _is_soft_block(known, session, suspect):
            evidence = f"the same {len(body)} bytes for every URL; usual: {known.usual_size()}"
            return Verdict(Kind.BLOCKED, "same-page", Strength.WEAK, evidence=evidence)
        known.sizes[min(len(body).bit_length(), _BUCKETS - 1)] += 1
        return verdict


def _note(known: _Site, session: str, answer: Answer, body: bytes) -> _Suspect | None:
    """Note what the session got; return the page if it is a suspect."""
    title, size = answer.title, len(body)
    known.answers += 1
    last = _recent(known.visitors, session, _Visitor, _SESSIONS)
    suspects = known.suspects.get(title)
    alike = last.may_have_got(title, size)
    page: int | None = None
    if size <= SMALL:
        if alike:
            last.read()
            page = last.page if hash(body) == last.body else fingerprint(answer)
        elif suspects and _is_like_one_of(suspects, size):
            page = fingerprint(answer)
        getters = _recent(known.getters, (title, size // _ALIKE), _several, _PAGES)
        if session not in getters:
            getters.append(session)
    if alike and (last.page is None or last.page == page):
        last.times += 1
        if last.times >= _PATIENCE:
            known.various.pop(session, None)
    else:
        if last.times:
            _recent(known.various, session, _nothing, _SESSIONS)
        last.title, last.times, last.urls = title, 1, set()
        last.before, last.since = last.since, known.answers
    # What is compared with the next answer:
    last.url, last.size, last.page = answer.requested_url, size, page
    last.body = None if page is None else hash(body)
    last.kept = (body, answer.content_type) if page is None and size <= _KEPT else None
    if len(last.urls) < STREAK:
        last.urls.add(hash(last.url))
    if page is None:
        return None
    if len(last.urls) >= STREAK:
        suspects = _recent(known.suspects, title, dict, _PAGES)
        if page in suspects or len(suspects) < _FORMS:
            suspects.setdefault(page, _Suspect(size)).sessions.add(session)
    return suspects.get(page) if suspects else None


def _is_like_one_of(suspects: dict[int, _Suspect], size: int) -> bool:
    """Whether a page of a suspect's title is about as long."""
    return any(abs(size - its.size) <= _ALIKE for its in suspects.values())


def _is_soft_block(known: _Site, session: str, page: _Suspect) -> bool:
    """Whether this page, for this session, is what is served instead of pages."""
    if session not in page.sessions and len(page.sessions) < _WITNESSES:
        return False
    mine = known.visitors[session]
    # The page among others, to sessions in good standing, is one of the site (an empty result).
    near = mine.size // _ALIKE
    got = {
        by for at in (near - 1, near, near + 1) for by in known.getters.get((mine.title, at), ())
    }
    if len((got & known.various.keys()) - {session}) >= _WITNESSES:
        return False
    start = mine.since if session in page.sessions else known.answers - _MEANWHILE
    if len(page.sessions) == 1:
        # The others may not have been used since; were it a change of the whole site, only this
        # session would pay for it.
        start = min(start, known.answers - _MEANWHILE)
    witnesses = 0
    for other in islice(reversed(known.various), _ASKED):
        its = known.visitors.get(other)
        witnesses += its is not None and other != session and _is_witness(its, mine, start)
        if witnesses == _WITNESSES:
            return True
    return False


def _is_witness(its: _Visitor, mine: _Visitor, start: int) -> bool:
    """Whether a session got two different pages, others than mine, for URLs like mine meanwhile.

    A site may well have one page for each visitor (an echo, a greeting), or for all URLs of one kind
    (a form to log in): who gets no different ones is no witness that there are pages to be had.
    """
    return (
        its.before >= start
        and not its.may_have_got(mine.title, mine.size)
        and _kind(its.url) == _kind(mine.url)
    )


def _kind(url: str) -> tuple[int, str]:
    """Return what URLs of one kind of page have in common: their depth and the first part."""
    path, query, _ = url.partition("?")
    parts = path.split("/", 8)
    return len(parts), parts[3] if len(parts) > (3 if query else 4) else ""


def fingerprint(answer: Answer) -> int:
    """Return a number for what a small page says, without the parts that change with each request.

    That is title and visible words, but for a few with digits in them (request ids, times,
    addresses) that do not stand in the URL, too. JSON and the like are compared byte for byte, pages
    full of links by title and length.
    """
    if answer.is_rich:
        return hash((answer.title, len(answer.body or b"")))
    if answer.is_data:
        return hash(answer.body)
    words = f"{answer.title} {answer.prose}".split()
    changing = {word for word in words if not _DIGITS.isdisjoint(word)}
    if len(changing) > _CHANGING or _numbers(changing) & _numbers([answer.requested_url]):
        changing = set()  # numbers are what this page is about
    return hash(" ".join(word for word in words if word not in changing))


def _numbers(texts: Iterable[str]) -> set[str]:
    return {number for text in texts for number in _NUMBER.findall(text)}


def _nothing() -> None:
    """Make the value of a key that is all there is."""


def _several() -> deque[str]:
    return deque(maxlen=_GETTERS)


def _recent(
    kept: OrderedDict[Key, Value], key: Key, make: Callable[[], Value], limit: int
) -> Value:
    """Return the value of a key, made if need be, and drop the one not used for longest."""
    if key in kept:
        kept.move_to_end(key)
        return kept[key]
    value = kept[key] = make()
    if len(kept) > limit:
        kept.popitem(last=False)
    return value
