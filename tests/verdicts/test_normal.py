"""What is normal at a site, and the page that is served instead."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from scrapy_session_filter.verdict import Kind, Strength, Verdict
from scrapy_session_filter.verdicts import Answer, Judge
from scrapy_session_filter.verdicts.normal import SMALL, Normal, fingerprint

from .pages import html

OK = Verdict(Kind.OK, "ok", Strength.WEAK)
WORDS = ["mill", "bridge", "river", "stone", "house", "garden", "window", "paper", "letter"]


def item(number: int) -> bytes:
    """Return a page of its own for each item."""
    words = random.Random(number).choices(WORDS, k=12)
    return html(f"<h1>{' '.join(words[:3])}</h1><p>{' '.join(words)}</p>", "Item")


def instead(number: int) -> bytes:
    """Return the one page for all, with a request id of its own."""
    return html(f"<p>Our shop is asleep. Request {number * 7919:x}a1</p>", "Shop")


def numbered(number: int) -> bytes:
    """Return a page of a shop whose pages differ in their number alone."""
    return html(f"<p>Oak table, model {number}</p>", "Shop")


def see(normal: Normal, session: str, number: int, body: bytes, verdict: Verdict = OK) -> Verdict:
    page = Answer(200, {}, body, f"https://shop.example/item/{number}")
    return normal.reconsider("shop.example", session, page, verdict)


def others(normal: Normal, number: int) -> None:
    """Let two good sessions get a page each."""
    for session in ("good0", "good1"):
        said = see(normal, session, number, item(2 * number + (session == "good1")))
        assert said.kind is Kind.OK


def test_found_within_three_pages() -> None:
    """One session gets the same page for all while others do not: the third shows it."""
    normal = Normal()
    said = []
    for n in range(5):
        said.append(see(normal, "bad", 200 + n, instead(n)))
        others(normal, n)
    assert [verdict.kind for verdict in said[:2]] == [Kind.OK, Kind.OK]
    assert {verdict.kind for verdict in said[2:]} == {Kind.BLOCKED}
    assert said[2].reason == "same-page"
    assert said[2].strength is Strength.WEAK
    assert "usual" in (said[2].evidence or "")


def test_a_session_that_was_good() -> None:
    """A session that is turned away in the middle is found just as well."""
    normal = Normal()
    for number in range(9):
        see(normal, f"s{number % 3}", number, item(number))
    said = []
    for n in range(3):
        said.append(see(normal, "s0", 100 + n, instead(n)).kind)
        others(normal, 100 + n)
    assert said == [Kind.OK, Kind.OK, Kind.BLOCKED]
    assert see(normal, "s1", 50, item(50)).kind is Kind.OK


def test_while_the_others_pause() -> None:
    """What others got just before is enough for one session: that a site has changed costs no more."""
    normal = Normal()
    for number in range(9):
        see(normal, f"s{number % 3}", number, item(number))
    said = [see(normal, "s0", 100 + n, instead(n)).kind for n in range(3)]
    assert said == [Kind.OK, Kind.OK, Kind.BLOCKED]
    assert {see(normal, "s1", 200 + n, instead(n)).kind for n in range(9)} == {Kind.OK}


def test_nothing_instead() -> None:
    """An empty answer for every URL is found like any other page."""
    normal = Normal()
    said = []
    for n in range(3):
        said.append(see(normal, "bad", n, b"").kind)
        others(normal, n)
    assert said[-1] is Kind.BLOCKED


def test_known_after_two_sessions() -> None:
    """What two sessions got for everything is known at first sight by the third."""
    normal = Normal()
    for n in range(3):
        see(normal, "bad1", 100 + n, instead(n))
        see(normal, "bad2", 100 + n, instead(n))
        others(normal, n)
    assert see(normal, "bad3", 200, instead(9)).kind is Kind.BLOCKED


def test_pages_of_another_kind() -> None:
    """What others get for URLs of another kind, or got before, says nothing of these."""
    normal = Normal()
    for n in range(9):
        login = Answer(200, {}, instead(n), f"https://shop.example/login?next={n}")
        assert normal.reconsider("shop.example", "a", login, OK) is OK
        others(normal, n)
    for n in range(9):
        assert see(normal, "b", n, instead(n)).kind is Kind.OK  # the others have stopped


def test_same_page_for_everyone() -> None:
    """The same page through every session is the site's own."""
    normal = Normal()
    said = {see(normal, f"s{n % 5}", n, instead(n)).kind for n in range(100)}
    assert said == {Kind.OK}


def test_pages_that_differ_in_their_number() -> None:
    """A page that names the number in its URL is that page, however alike they are."""
    normal = Normal()
    said = {see(normal, f"s{n % 9}", n, numbered(n)).kind for n in range(300)}
    assert said == {Kind.OK}


def test_a_page_for_each_visitor() -> None:
    """Where every session gets one page of its own for all URLs, that is how the site is."""
    normal = Normal()
    said = {
        see(normal, f"s{n % 7}", n, html(f"<p>Hello {WORDS[n % 7]}</p>", "Hi")).kind
        for n in range(300)
    }
    assert said == {Kind.OK}


def test_page_among_others() -> None:
    """A page that sessions get among others, such as an empty result, is a page."""
    normal = Normal()
    chance = random.Random(7)
    said = set()
    for number in range(3000):
        body = html("<p>No results</p>", "Search") if chance.random() < 0.4 else item(number)
        if number > 60:
            said.add(see(normal, f"s{chance.randrange(8)}", number, body).kind)
        else:
            see(normal, f"s{number % 8}", number, body)
    assert said == {Kind.OK}


def test_one_url_again_and_again() -> None:
    """The same page for the same URL proves nothing."""
    normal = Normal()
    for number in range(6):
        see(normal, f"good{number % 2}", number, item(number))
    assert {see(normal, "s", 7, item(7)).kind for _ in range(20)} == {Kind.OK}


def test_evidence_stands() -> None:
    """A strong OK, a block, another status, a long or an unread page stay what they are."""
    normal = Normal()
    for number in range(6):
        see(normal, f"good{number % 2}", number, item(number))
    strong = Verdict(Kind.OK, "as-expected")
    blocked = Verdict(Kind.BLOCKED, "captcha-page")
    long = html("<p>asleep</p>" + "<!-- -->" * SMALL)
    for n in range(5):
        assert see(normal, "a", n, instead(n), strong) is strong
        assert see(normal, "b", n, instead(n), blocked) is blocked
        assert see(normal, "c", n, long) is OK
        posted = Answer(200, {}, instead(n), f"https://shop.example/{n}", method="POST")
        assert normal.reconsider("shop.example", "d", posted, OK) is OK
        unread = Answer(200, {}, None, f"https://shop.example/{n}")
        assert normal.reconsider("shop.example", "f", unread, OK) is OK
        missing = Answer(404, {}, instead(n), f"https://shop.example/{n}")
        assert normal.reconsider("shop.example", "e", missing, OK) is OK


def test_through_the_judge() -> None:
    """The judge learns what is normal where it is told who got the answer, unless switched off."""

    class Response:
        def __init__(self, number: int, body: bytes) -> None:
            self.status, self.body = 200, body
            self.headers: dict[str, str] = {}
            self.url = f"https://shop.example/item/{number}"

    for learning, last in ((True, Kind.BLOCKED), (False, Kind.OK)):
        judge = Judge(learn_normal=learning)
        for n in range(3):
            kind = judge.response(Response(n, instead(n)), seen_by=("shop.example", "bad")).kind
            for session in ("good0", "good1"):
                page = item(2 * n + (session == "good1"))
                judge.response(Response(n, page), seen_by=("shop.example", session))
        assert kind is last
        assert judge.response(Response(20, instead(20))).kind is Kind.OK


def test_fingerprint() -> None:
    """Pages that differ in numbers alone are the same, others are not."""
    bodies = (instead(1), instead(2), item(1), b'{"price": 1}', b'{"price": 2}')
    one, other, item_page, *data = [fingerprint(Answer(200, {}, body)) for body in bodies]
    assert one == other != item_page
    assert len(set(data)) == 2


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3000), st.binary(max_size=30))))
def test_bounded(answers: list[tuple[int, int, bytes]]) -> None:
    """Whatever comes, memory stays within its limits."""
    normal = Normal()
    for site, session, body in answers:
        page = Answer(200, {}, body, f"https://x.example/{session}")
        normal.reconsider(f"s{site % 3}", f"s{session}", page, OK)
    for known in normal._sites.values():
        assert max(len(known.visitors), len(known.various)) <= 500
        assert max(len(known.getters), len(known.suspects)) <= 200


def test_limits() -> None:
    """Sites, sessions and pages beyond the limits push out the least recently used."""
    normal = Normal()
    for n in range(1500):
        page = Answer(200, {}, item(n), f"https://x.example/{n}")
        normal.reconsider(f"site{n}", "s", page, OK)
        for number in range(3):
            body = html(f"<p>{WORDS[n % 9]}</p>", f"Shop {n}")
            again = Answer(200, {}, body, f"https://x.example/{number}")
            normal.reconsider("one", f"s{n}", again, OK)
            other = Answer(
                200, {}, item(number) + b" " * 70 * (n + number), f"https://x.example/{number}"
            )
            normal.reconsider("other", f"s{n % 800}", other, OK)
    assert len(normal._sites) == 1000
    assert len(normal._sites["one"].visitors) == 500
    assert len(normal._sites["one"].suspects) == 200
    assert len(normal._sites["other"].various) == 500
    assert len(normal._sites["other"].getters) == 200
