"""What every store does; the suite runs against each."""

from __future__ import annotations

import logging
from copy import deepcopy
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pytest

from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.stores import base
from scrapy_session_filter.stores.base import CLAIM_SECONDS, MAX_ROW_BYTES, Batch, SessionStore
from tests.stores.places import SITE, Place, RedisPlace, exits, row

if TYPE_CHECKING:
    from collections.abc import Iterable


def saved(store: SessionStore, site: str | None = None) -> dict[str, Any]:
    return {found["id"]: found for found in store.rows(site)}


def ordered(store: SessionStore, site: str | None = None) -> list[dict[str, Any]]:
    return by_id(store.rows(site))


def by_id(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in order: stores yield them in any."""
    return sorted(rows, key=itemgetter("id"))


# -- what is kept


def test_is_empty_at_first(place: Place) -> None:
    """A new store knows no site, no session and no state."""
    store = place.open()
    assert store.sites() == []
    assert ordered(store) == []
    assert store.site_state(SITE) is None
    assert store.endpoint_states() == {}
    claim = store.claim(SITE, [])
    assert (claim.exits, claim.rows) == (set(), [])


def test_keeps_rows_as_they_are(place: Place) -> None:
    """A session comes back equal, fields of a newer release included."""
    store = place.open()
    rows = [row(1), row(2, rest=1.5e9, engine={"x": [1, None]}, novel={"deep": [True]})]
    store.apply(Batch("b", sessions=deepcopy(rows)))
    assert ordered(store) == rows


def test_outlives_its_owner(place: Place) -> None:
    """All that was applied is there for the next owner."""
    store = place.open()
    store.apply(
        Batch("b", [row(1)], sites={SITE: {"pace": 2}}, endpoints={"http://p:1": {"fails": 3}})
    )
    store.close()
    after = place.open()
    assert after.claim(SITE, []).rows == [row(1)]
    assert after.site_state(SITE) == {"pace": 2}
    assert after.endpoint_states() == {"http://p:1": {"fails": 3}}


def test_replaces_changed_rows(place: Place) -> None:
    """The last applied version of a session counts; others are untouched."""
    store = place.open()
    store.apply(Batch("a", [row(1), row(2)]))
    store.apply(Batch("b", [row(1, uses=99)]))
    assert saved(store) == {r["id"]: r for r in (row(1, uses=99), row(2))}


def test_takes_the_later_of_two_versions_in_one_batch(place: Place) -> None:
    """A session that stands twice in a batch is kept once, as it stands last."""
    store = place.open()
    store.apply(Batch("a", [row(1), row(1, uses=7)]))
    assert ordered(store) == [row(1, uses=7)]


def test_removes(place: Place) -> None:
    """A removed session is gone; its neighbours stay."""
    store = place.open()
    store.apply(Batch("a", [row(1), row(2)]))
    store.apply(Batch("b", removed=[(SITE, row(1)["id"])]))
    assert ordered(store) == [row(2)]


def test_removing_is_for_good(place: Place) -> None:
    """A late change does not bring a removed session back, and is counted."""
    store = place.open()
    store.apply(Batch("a", [row(1)]))
    store.apply(Batch("b", removed=[(SITE, row(1)["id"])]))
    store.apply(Batch("c", [row(1)]))
    assert ordered(store) == []
    assert store.refused == 1


def test_removal_beats_a_change_in_the_same_batch(place: Place) -> None:
    """A session changed and removed in one batch is gone."""
    store = place.open()
    store.apply(Batch("a", [row(1)], removed=[(SITE, row(1)["id"])]))
    assert ordered(store) == []


def test_removing_the_unknown_does_nothing(place: Place) -> None:
    """A session that was never saved can be removed."""
    store = place.open()
    store.apply(Batch("a", removed=[(SITE, "s99999999999"), ("nowhere.example", "x")]))
    assert ordered(store) == []


def test_same_id_on_two_sites_are_two_sessions(place: Place) -> None:
    """Sessions are told apart by site and id."""
    store = place.open()
    store.apply(Batch("a", [row(1), row(1, site="b.example")]))
    store.apply(Batch("b", removed=[(SITE, row(1)["id"])]))
    assert ordered(store) == [row(1, site="b.example")]


def test_rows_of_one_site(place: Place) -> None:
    """Rows can be asked for by site."""
    store = place.open()
    store.apply(Batch("a", [row(1), row(2, site="b.example"), row(3)]))
    assert saved(store, SITE).keys() == {row(1)["id"], row(3)["id"]}
    assert ordered(store, "b.example") == [row(2, site="b.example")]
    assert ordered(store, "c.example") == []


def test_names_all_sites(place: Place) -> None:
    """Sites are known by their sessions or by their learnt state."""
    store = place.open()
    store.apply(Batch("a", [row(1), row(2)], sites={"learnt.example": {"x": 1}}))
    assert sorted(store.sites()) == ["learnt.example", SITE]


def test_gives_copies(place: Place) -> None:
    """Changing what went in or came out changes nothing in the store."""
    store = place.open()
    mine = row(1)
    state = {"list": [1]}
    store.apply(Batch("a", [mine], sites={SITE: state}, endpoints={"e": state}))
    mine["headers"]["User-Agent"] = "changed"
    state["list"].append(2)
    for found in store.rows():
        found["uses"] = -1
    store.endpoint_states()["e"]["list"].append(3)
    assert ordered(store) == [row(1)]
    assert store.site_state(SITE) == {"list": [1]}
    assert store.endpoint_states() == {"e": {"list": [1]}}


@pytest.mark.parametrize(
    "text",
    ["ä", "日本語", "🍪", "a'b\"c", "%s{0}", "\x1b[31m", "\u2028", "a\\u0000b", "[]", "x" * 200],
)
def test_keeps_any_text(place: Place, text: str) -> None:
    """Sites, exits and values may be any text; quotes and escapes mean nothing."""
    store = place.open()
    odd = row(1, site=text, exit_=text, cookies=[{"value": text, "\ud800": "\ud800"}])
    store.apply(Batch(text, [odd], sites={text: {text: text}}, endpoints={text: {text: text}}))
    store.close()
    store = place.open()
    assert ordered(store, text) == [odd]
    assert store.claim(text, [text]).exits == {text}
    assert store.site_state(text) == {text: text}
    assert store.endpoint_states() == {text: {text: text}}


def test_yields_many_rows(place: Place) -> None:
    """Reading in portions leaves none out and yields none twice."""
    store = place.open()
    store.apply(Batch("a", [row(n) for n in range(1203)]))
    found = [r["id"] for r in store.rows()]
    assert len(found) == 1203
    assert len(set(found)) == 1203


# -- learnt states


def test_merges_a_sites_state_by_key(place: Place) -> None:
    """New keys join the saved ones, same keys are replaced, None removes."""
    store = place.open()
    store.apply(Batch("a", sites={SITE: {"a": 1, "b": {"x": 1}, "c": 3}}))
    store.apply(Batch("b", sites={SITE: {"b": {"y": 2}, "c": None, "d": 4}}))
    assert store.site_state(SITE) == {"a": 1, "b": {"y": 2}, "d": 4}


def test_replaces_an_endpoints_state(place: Place) -> None:
    """An endpoint's state is replaced as a whole; other endpoints keep theirs."""
    store = place.open()
    store.apply(Batch("a", endpoints={"p": {"a": 1, "b": 2}, "q": {"c": 3}}))
    store.apply(Batch("b", endpoints={"p": {"a": 9}}))
    assert store.endpoint_states() == {"p": {"a": 9}, "q": {"c": 3}}


def test_owners_keep_each_others_states(shared_place: Place) -> None:
    """Two owners' learnt states of one site, and of different endpoints, are all kept."""
    one, two = shared_place.open(), shared_place.open()
    one.apply(Batch("a", sites={SITE: {"one": 1}}, endpoints={"p": {"n": 1}}))
    two.apply(Batch("b", sites={SITE: {"two": 2}}, endpoints={"q": {"n": 2}}))
    assert one.site_state(SITE) == {"one": 1, "two": 2}
    assert one.endpoint_states() == two.endpoint_states() == {"p": {"n": 1}, "q": {"n": 2}}


# -- batches


def test_applies_a_batch_once(place: Place) -> None:
    """The second application of a batch does nothing, whatever it holds by then."""
    store = place.open()
    store.apply(Batch("a", [row(1)]))
    store.apply(Batch("b", [row(1, uses=5)]))
    store.apply(Batch("a", [row(1), row(2)], sites={SITE: {"x": 1}}))
    assert ordered(store) == [row(1, uses=5)]
    assert store.site_state(SITE) is None


def test_applies_an_empty_batch(place: Place) -> None:
    """A batch without changes is applied without effect."""
    store = place.open()
    store.apply(Batch("a"))
    assert store.sites() == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(1, learnt="x" * MAX_ROW_BYTES), "bytes"),
        (row(1, learnt=float("nan")), "JSON"),
        (row(1, learnt=float("inf")), "JSON"),
        (row(1, learnt={1, 2}), "JSON"),
        (row(1, site=""), "key"),
        (row(1, site="a\0b"), "key"),
        (row(1, exit_="\ud800"), "key"),
        (row(1, site="x" * 5000), "key"),
        ({**row(1), "id": 5}, "key"),
        ({"site": SITE, "exit": "x"}, "key"),
    ],
)
def test_leaves_out_what_cannot_be_kept(
    place: Place, bad: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One row beyond the limits is left out with a warning; the rest of the batch is kept."""
    store = place.open()
    store.apply(Batch("a", [bad, row(2)], sites={SITE: {"x": 1}}))
    assert ordered(store) == [row(2)]
    assert store.site_state(SITE) == {"x": 1}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()


def test_leaves_out_states_that_cannot_be_kept(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """A state beyond the limits is left out with a warning, and the saved one stays."""
    store = place.open()
    store.apply(Batch("a", sites={SITE: {"x": 1}}, endpoints={"p": {"y": 1}}))
    store.apply(
        Batch(
            "b", sites={SITE: {"x": "x" * (base.MAX_STATE_BYTES + 1)}}, endpoints={"p": {"y": {1}}}
        )
    )
    assert store.site_state(SITE) == {"x": 1}
    assert store.endpoint_states() == {"p": {"y": 1}}
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_holds_a_large_row(place: Place) -> None:
    """A session just below the limit is kept whole."""
    store = place.open()
    large = row(1, learnt="x" * (MAX_ROW_BYTES - 2000))
    store.apply(Batch("a", [large, row(2)]))
    store.close()
    assert by_id(place.open().claim(SITE, []).rows) == [large, row(2)]


# -- claims of one owner


def test_a_lone_owner_gets_everything(place: Place) -> None:
    """With nobody else, all exits are granted, offered or saved, with the saved sessions."""
    store = place.open()
    store.apply(Batch("a", [row(n) for n in range(5)]))
    store.close()
    store = place.open()
    claim = store.claim(SITE, ["p1", "p2"])
    assert claim.exits == exits(*range(5)) | {"p1", "p2"}
    assert {r["id"] for r in claim.rows} == exits(*range(5))


def test_claims_at_most_what_is_asked(place: Place) -> None:
    """``most`` bounds a claim, and saved sessions come before unproven exits."""
    store = place.open()
    store.apply(Batch("a", [row(1), row(2)]))
    store.close()
    store = place.open()
    claim = store.claim(SITE, ["p1", "p2"], most=3)
    assert len(claim.exits) == 3
    assert claim.exits > exits(1, 2)
    assert len(claim.rows) == 2
    assert store.claim(SITE, ["p1", "p2"], most=0).exits == set()


def test_claims_twice_only_what_is_new(place: Place) -> None:
    """What is held stays held and is not granted again."""
    store = place.open()
    assert store.claim(SITE, ["p", "q"]).exits == {"p", "q"}
    assert store.claim(SITE, ["p", "q"]).exits == set()
    assert store.claim(SITE, ["p", "q", "r"]).exits == {"r"}


def test_tokens_rise(place: Place) -> None:
    """Each grant has a higher token than the one before."""
    store = place.open()
    tokens = [store.claim(SITE, [f"p{n}"]).token for n in range(5)]
    assert tokens == sorted(set(tokens))


def test_new_exits_of_a_batch_are_claimed(place: Place) -> None:
    """A session that was made here is held here from its first save on."""
    store = place.open()
    store.apply(Batch("a", [row(1)]))
    assert store.claim(SITE, []).exits == set()


def test_released_exits_can_be_claimed_again(place: Place) -> None:
    """After a release an exit is free, with its sessions."""
    store = place.open()
    store.apply(Batch("a", [row(1)]))
    store.release(SITE, exits(1))
    claim = store.claim(SITE, [])
    assert (claim.exits, claim.rows) == (exits(1), [row(1)])


def test_releasing_the_unknown_does_nothing(place: Place) -> None:
    """Exits that are not held may be released."""
    store = place.open()
    store.release(SITE, ["never"])
    store.release("nowhere.example", [])
    assert store.claim(SITE, ["never"]).exits == {"never"}


def test_sites_are_claimed_apart(place: Place) -> None:
    """An exit held on one site is free on another."""
    store = place.open()
    assert store.claim(SITE, ["p"]).exits == {"p"}
    assert store.claim("b.example", ["p"]).exits == {"p"}


def test_several_sessions_on_one_exit_come_together(place: Place) -> None:
    """All saved sessions of a granted exit are handed out with it, no others."""
    store = place.open()
    store.apply(Batch("a", [row(1, exit_="p"), row(2, exit_="p"), row(3, exit_="q")]))
    store.close()
    store = place.open()
    claims = [store.claim(SITE, [], most=1) for _ in range(2)]
    found = {claim.exits.pop(): by_id(claim.rows) for claim in claims}
    assert found == {
        "p": [row(1, exit_="p"), row(2, exit_="p")],
        "q": [row(3, exit_="q")],
    }


def test_nothing_is_lost_to_a_lone_owner(place: Place) -> None:
    """Claims that ran out while nobody else was there are simply prolonged."""
    store = place.open()
    store.apply(Batch("a", [row(1)]))
    place.wait(10 * CLAIM_SECONDS)
    assert store.renew() == {}
    store.apply(Batch("b", [row(1, uses=8)]))
    assert store.refused == 0
    assert ordered(store) == [row(1, uses=8)]


def test_a_lone_owner_has_no_surplus(place: Place) -> None:
    """Nobody else, nothing to give back."""
    store = place.open()
    store.claim(SITE, ["p", "q"])
    assert store.surplus(SITE) == 0


def test_a_proxy_outlives_its_sessions(place: Place) -> None:
    """When a session of a listed proxy is removed, the proxy stays claimed for the next one."""
    store = place.open()
    store.claim(SITE, ["p"])
    store.apply(Batch("a", [row(1, exit_="p")]))
    store.apply(Batch("b", [row(2, exit_="p")], removed=[(SITE, row(1)["id"])]))
    assert store.claim(SITE, ["p"]).exits == set()
    assert ordered(store) == [row(2, exit_="p")]
    assert store.refused == 0


# -- several owners


def test_no_exit_has_two_owners(shared_place: Place) -> None:
    """What one owner holds, another does not get."""
    one, two = shared_place.open(), shared_place.open()
    assert one.claim(SITE, ["p", "q"], most=1).exits == {"p"}
    assert two.claim(SITE, ["p", "q"]).exits == {"q"}
    assert two.claim(SITE, ["p", "q"]).exits == set()


def test_a_share_is_fair(shared_place: Place) -> None:
    """With another owner at work, half of the free exits are granted, rounded up."""
    one, two = shared_place.open(), shared_place.open()
    offered = [f"p{n}" for n in range(11)]
    assert len(one.claim(SITE, offered, most=2).exits) == 2
    assert len(two.claim(SITE, offered).exits) == 5
    assert len(two.claim(SITE, offered).exits) == 2


def test_an_onlooker_takes_no_share(shared_place: Place) -> None:
    """A store that is open but claims nothing is no rival."""
    shared_place.open()
    assert len(shared_place.open().claim(SITE, ["p", "q", "r"]).exits) == 3


def test_release_frees_for_others(shared_place: Place) -> None:
    """A released exit goes to the next who asks, with its sessions as last saved."""
    one, two = shared_place.open(), shared_place.open()
    one.apply(Batch("a", [row(1)]))
    assert two.claim(SITE, []).exits == set()
    one.release(SITE, exits(1))
    claim = two.claim(SITE, [])
    assert (claim.exits, claim.rows) == (exits(1), [row(1)])


def test_close_frees_for_others(shared_place: Place) -> None:
    """A closed owner's exits are free at once."""
    one, two = shared_place.open(), shared_place.open()
    one.apply(Batch("a", [row(1), row(2)]))
    two.claim(SITE, [])
    one.close()
    assert two.claim(SITE, []).exits == exits(1, 2)


def test_claims_run_out(shared_place: Place) -> None:
    """A living owner that does not renew keeps its claims for their time and no longer."""
    one, two = shared_place.open(), shared_place.open()
    one.claim(SITE, ["p"])
    shared_place.wait(CLAIM_SECONDS - 5)
    assert two.claim(SITE, ["p"]).exits == set()
    shared_place.wait(6)
    assert two.claim(SITE, ["p"]).exits == {"p"}


def test_renewed_claims_hold(shared_place: Place) -> None:
    """Renewing at a third of the time keeps all claims for ever."""
    one, two = shared_place.open(), shared_place.open()
    one.claim(SITE, ["p"])
    for _ in range(12):
        shared_place.wait(CLAIM_SECONDS / 3)
        assert one.renew() == {}
        assert two.claim(SITE, ["p"]).exits == set()


def test_renew_tells_what_was_lost(shared_place: Place) -> None:
    """After a loss the first renewal names it by site, later ones do not."""
    one, two = shared_place.open(), shared_place.open()
    one.claim(SITE, ["p", "q"])
    one.claim("b.example", ["p"])
    shared_place.wait(CLAIM_SECONDS + 1)
    two.claim(SITE, ["p"])
    assert one.renew() == {SITE: {"p"}}
    assert one.renew() == {}


def test_renew_tells_what_was_lost_and_given_back(shared_place: Place) -> None:
    """An exit that another owner had meanwhile is lost even if it is free again."""
    one, two = shared_place.open(), shared_place.open()
    one.claim(SITE, ["p"])
    shared_place.wait(CLAIM_SECONDS + 1)
    two.claim(SITE, ["p"])
    two.release(SITE, ["p"])
    assert one.renew() == {SITE: {"p"}}


def test_a_loss_outlasts_claims_and_saves(shared_place: Place) -> None:
    """Claiming and saving before the renewal do not swallow the news of a loss."""
    one, two = shared_place.open(), shared_place.open()
    one.claim(SITE, ["p"])
    shared_place.wait(CLAIM_SECONDS + 1)
    two.claim(SITE, ["p"])
    two.close()
    assert one.claim(SITE, ["p", "q"]).exits == {"q"}
    one.apply(Batch("a", [row(1)]))
    assert one.renew() == {SITE: {"p"}}
    assert one.claim(SITE, ["p"]).exits == {"p"}


def test_changes_of_a_former_owner_are_refused(shared_place: Place) -> None:
    """Who lost an exit can no longer change or remove its sessions; the rest is written."""
    one, two = shared_place.open(), shared_place.open()
    one.apply(Batch("a", [row(1), row(2), row(3)]))
    shared_place.wait(CLAIM_SECONDS + 1)
    changed, untouched = two.claim(SITE, [], most=2).rows
    (left,) = {1, 2, 3} - {changed["uses"], untouched["uses"]}
    two.apply(Batch("b", [{**changed, "oks": 50}]))
    one.apply(
        Batch("c", [{**changed, "oks": 7}, row(left, oks=7)], removed=[(SITE, untouched["id"])])
    )
    assert ordered(one) == by_id([{**changed, "oks": 50}, untouched, row(left, oks=7)])
    assert one.refused == 2
    assert two.refused == 0
    assert one.renew() == {SITE: {changed["exit"], untouched["exit"]}}
    assert two.claim(SITE, []).exits == set()


def test_changes_of_a_former_owner_stay_refused(shared_place: Place) -> None:
    """They are refused also after the new owner is gone, with its sessions or without."""
    one, two = shared_place.open(), shared_place.open()
    one.apply(Batch("a", [row(1), row(2)]))
    shared_place.wait(CLAIM_SECONDS + 1)
    two.claim(SITE, [])
    two.apply(Batch("b", [row(1, uses=50)], removed=[(SITE, row(2)["id"])]))
    two.close()
    one.apply(Batch("c", [row(1), row(2)]))
    one.renew()
    one.apply(Batch("d", [row(1), row(2)]))
    assert ordered(one) == [row(1, uses=50)]
    assert one.refused == 4


def test_a_save_takes_over_what_ran_out(shared_place: Place) -> None:
    """A session made on an exit whose claim ran out takes it; the former owner is told."""
    one, two, three = (shared_place.open() for _ in range(3))
    one.apply(Batch("a", [row(1, exit_="p"), row(2)]))
    shared_place.wait(CLAIM_SECONDS + 1)
    two.apply(Batch("b", [row(3, exit_="p")]))
    assert three.claim(SITE, ["p"]).exits == exits(2)
    one.apply(Batch("c", [row(1, exit_="p", oks=7)]))
    assert one.refused == 1
    assert one.renew() == {SITE: {"p", *exits(2)}}
    assert two.renew() == {}
    two.apply(Batch("d", [row(3, exit_="p", oks=5)]))
    assert two.refused == 0


def test_the_dead_leave_others_alone(shared_place: Place) -> None:
    """Clearing up after an owner that is gone touches nothing that has a new owner."""
    one, two, three = (shared_place.open() for _ in range(3))
    one.apply(Batch("a", [row(1), row(2)], removed=[]))
    one.apply(Batch("b", removed=[(SITE, row(2)["id"])]))
    shared_place.wait(CLAIM_SECONDS + 1)
    two.apply(Batch("c", [row(4, exit_=row(1)["exit"])]))
    one.close()
    assert three.claim(SITE, []).exits == set()
    assert two.renew() == {}
    two.close()
    assert three.claim(SITE, []).exits == exits(1)


def test_what_was_learnt_of_a_lost_site_is_refused(shared_place: Place) -> None:
    """Who lost all exits of a site no longer speaks for it."""
    one, two = shared_place.open(), shared_place.open()
    one.claim(SITE, ["p"])
    one.apply(Batch("a", sites={SITE: {"pace": 1}}))
    shared_place.wait(CLAIM_SECONDS + 1)
    two.claim(SITE, ["p"])
    two.apply(Batch("b", sites={SITE: {"pace": 2}}))
    one.apply(Batch("c", sites={SITE: {"pace": 1}, "b.example": {"pace": 3}}))
    assert two.site_state(SITE) == {"pace": 2}
    assert two.site_state("b.example") == {"pace": 3}
    assert one.refused == 1


def test_a_session_of_others_cannot_be_touched(shared_place: Place) -> None:
    """Nobody changes or removes a session on an exit that another owner holds."""
    one, two = shared_place.open(), shared_place.open()
    one.apply(Batch("a", [row(1)]))
    two.apply(Batch("b", [row(1, uses=7)], removed=[(SITE, row(1)["id"])]))
    assert ordered(two) == [row(1)]
    assert two.refused == 2


def test_an_unclaimed_session_can_be_removed_by_anyone(shared_place: Place) -> None:
    """A person may retire a session that no crawl uses."""
    one = shared_place.open()
    one.apply(Batch("a", [row(1), row(2)]))
    one.close()
    two = shared_place.open()
    two.apply(Batch("b", removed=[(SITE, row(1)["id"])]))
    assert ordered(two) == [row(2)]
    assert two.refused == 0


def test_saving_after_release_works_while_nobody_took_it(shared_place: Place) -> None:
    """A last change after a release is written, unless somebody else has claimed since."""
    one, two = shared_place.open(), shared_place.open()
    one.apply(Batch("a", [row(1)]))
    one.release(SITE, exits(1))
    one.apply(Batch("b", [row(1, uses=5)]))
    assert two.claim(SITE, []).rows == [row(1, uses=5)]
    one.apply(Batch("c", [row(1, uses=6)]))
    assert ordered(two) == [row(1, uses=5)]


def test_tokens_rise_over_all_owners(shared_place: Place) -> None:
    """No two grants of a store ever have the same token."""
    stores = [shared_place.open() for _ in range(3)]
    tokens = [
        store.claim(SITE, [f"{n}-{i}"]).token for n in range(4) for i, store in enumerate(stores)
    ]
    assert tokens == sorted(set(tokens))


def test_who_came_short_is_given_to(shared_place: Place) -> None:
    """A second owner gets half within one round: the first sees its surplus and gives it back."""
    one, two = shared_place.open(), shared_place.open()
    offered = [f"p{n}" for n in range(10)]
    mine = one.claim(SITE, offered).exits
    assert one.surplus(SITE) == 0
    assert two.claim(SITE, offered).exits == set()
    assert one.surplus(SITE) == 5
    assert one.surplus("b.example") == 0
    one.release(SITE, sorted(mine)[:5])
    got: set[str] = set()
    while new := two.claim(SITE, offered).exits:
        got |= new
    assert len(got) == 5
    assert one.surplus(SITE) == two.surplus(SITE) == 0


def test_says_who_is_short(shared_place: Place) -> None:
    """A claim tells what is lacking of an equal part; the others hear at which site."""
    one, two = shared_place.open(), shared_place.open()
    offered = [f"p{n}" for n in range(10)]
    assert one.claim(SITE, offered).short == 0
    assert one.wanted() == set()
    assert two.claim(SITE, offered).short == 5
    assert one.wanted() == {SITE}
    assert two.wanted() == set()
    given = sorted(one.held(SITE))[: one.surplus(SITE)]
    one.release(SITE, given)
    while (claim := two.claim(SITE, offered)).short:
        assert claim.exits
    assert two.held(SITE) == set(given)
    assert one.held(SITE) == set(offered) - set(given)
    assert one.wanted() == set()


def test_a_want_ends_with_its_owner(shared_place: Place) -> None:
    """Who is gone lacks nothing any more, or not for long."""
    one, two = shared_place.open(), shared_place.open()
    one.claim(SITE, ["p", "q"])
    two.claim(SITE, ["p", "q"])
    two.close()
    shared_place.wait(CLAIM_SECONDS + 1)
    assert one.surplus(SITE) == 0
    assert one.wanted() == set()


def test_knows_whether_a_session_is_saved(place: Place) -> None:
    """Also of one that nobody or another owner has; not of one that was removed."""
    store = place.open()
    store.apply(Batch("a", [row(1), row(2)]))
    assert store.has(SITE, row(1)["id"])
    assert not store.has("other.example", row(1)["id"])
    assert not store.has(SITE, row(3)["id"])
    store.apply(Batch("b", removed=[(SITE, row(2)["id"])]))
    assert not store.has(SITE, row(2)["id"])


def test_knows_what_it_holds(place: Place) -> None:
    """Held is what was claimed, or came with a batch, and was not given back."""
    store = place.open()
    assert store.held(SITE) == set()
    store.claim(SITE, ["p", "q"])
    store.apply(Batch("a", [row(1)]))
    store.release(SITE, ["q"])
    assert store.held(SITE) == {"p"} | exits(1)


def test_surplus_is_no_more_than_wanted(shared_place: Place) -> None:
    """Who asked for few is given few, and a want runs out."""
    one, two = shared_place.open(), shared_place.open()
    offered = [f"p{n}" for n in range(10)]
    one.claim(SITE, offered)
    two.claim(SITE, offered, most=2)
    assert one.surplus(SITE) == 2
    shared_place.wait(CLAIM_SECONDS + 1)
    one.renew()
    assert one.surplus(SITE) == 0


# -- opening and closing


def test_cannot_be_used_before_it_is_open(place: Place) -> None:
    """Calls on a store that is not open are errors."""
    with pytest.raises(StoreError, match="not open"):
        place.new().sites()


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.claim(SITE, []),
        lambda store: store.renew(),
        lambda store: store.release(SITE, []),
        lambda store: store.site_state(SITE),
        lambda store: store.endpoint_states(),
        lambda store: store.apply(Batch("x")),
        lambda store: store.sites(),
        lambda store: list(store.rows()),
    ],
)
def test_cannot_be_used_after_it_is_closed(place: Place, call: Any) -> None:
    """Calls on a closed store are errors; closing again is none."""
    store = place.open()
    store.close()
    store.close()
    with pytest.raises(StoreError, match="not open"):
        call(store)


def test_an_onlooker_that_renews_takes_no_share(shared_place: Place) -> None:
    """Renewing without ever having claimed makes nobody a rival."""
    assert shared_place.open().renew() == {}
    assert len(shared_place.open().claim(SITE, ["p", "q", "r"]).exits) == 3


def test_is_alone_only_where_that_is_certain(place: Place) -> None:
    """A file or memory shows who else is there; a server does not."""
    store = place.open()
    certain = not isinstance(place, RedisPlace)
    assert store.alone() is certain
    if place.shared:
        other = place.open()
        assert not store.alone()
        other.close()
        assert store.alone() is certain


def test_says_whether_it_is_shared(place: Place) -> None:
    """``shared`` tells whether processes can meet in the store."""
    assert place.new().shared is place.shared


def test_holds_no_more_than_its_limit(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full store takes changes and removals, and no new session."""
    for module in ("memory", "sqlite_batch", "redis"):
        monkeypatch.setattr(f"scrapy_session_filter.stores.{module}.MAX_SESSIONS", 3)
    store = place.open()
    store.apply(Batch("a", [row(n) for n in range(5)]))
    assert saved(store).keys() == exits(0, 1, 2)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    store.apply(Batch("b", [row(0, uses=9)], removed=[(SITE, row(1)["id"])]))
    store.apply(Batch("c", [row(7)]))
    assert saved(store).keys() == exits(0, 2, 7)
