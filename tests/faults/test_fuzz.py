"""Whatever is saved, or sent by a site: it is taken, or refused with an error of ours."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scrapy.http import Request, Response
from scrapy.http.cookies import CookieJar

from scrapy_session_filter import snapshot
from scrapy_session_filter.engines.cookies import restore_cookie
from scrapy_session_filter.exceptions import InvalidRow
from scrapy_session_filter.loading import load
from scrapy_session_filter.policies import POLICIES
from scrapy_session_filter.proxies import parse_proxy
from scrapy_session_filter.roster import LONGEST_REST
from scrapy_session_filter.session import Session, State
from scrapy_session_filter.verdict import Kind
from scrapy_session_filter.verdicts import Judge
from scrapy_session_filter.verdicts.retry_after import LIMIT, parse_retry_after
from tests.inputs import test_endpoint, test_settings
from tests.pool.conftest import Bench
from tests.stores.places import SITE, row
from tests.verdicts.pages import answer

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
JUDGE = Judge()
NOW, WALL = 1000.0, 1.7e9
ENDPOINT = parse_proxy("http://10.0.0.1:8000", setting="TEST")
STATE = ["learnt", "health", "new", "policy", f"{snapshot.REST}{ENDPOINT.key}"]

texts = st.text(max_size=20)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts
    | st.sampled_from([-1, 0, 1, 2**53, 2**53 + 1, 10**400, -0.0, 1e308, math.inf, math.nan])
    | st.sampled_from(["\\x00", "\\ud800", "a" * 2000, "a\\r\\nb", WALL, WALL + 1e9, WALL - 1e9])
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=6
)
names = st.sampled_from([*row(), "state", "unknown"])
rows = st.builds(
    lambda changes, gone: {k: v for k, v in {**row(1), **changes}.items() if k not in gone},
    st.dictionaries(names, values, max_size=4),
    st.sets(names, max_size=2),
)


@given(rows | st.dictionaries(texts, values, max_size=4))
def test_any_row_is_a_session_or_refused(saved: dict[str, Any]) -> None:
    """A saved row gives a session within bounds, or `InvalidRow`; never another error."""
    try:
        session = Session.from_row(saved, None, now=NOW, wall_offset=WALL - NOW)
    except InvalidRow:
        return
    assert session.born <= NOW
    assert session.used <= NOW
    assert min(session.uses, session.oks, session.blocks, session.errors) >= 0
    assert math.isfinite(session.wake)
    with suppress(ValueError):  # what JSON has no word for, the store refuses
        json.dumps(session.to_row(WALL - NOW), allow_nan=False)


@given(
    st.lists(rows, max_size=4),
    st.none() | st.dictionaries(st.sampled_from(STATE), values),
    st.sampled_from(sorted(POLICIES)),
)
@example([{**row(1), "proxy": [None]}], None, "adaptive")
@example([], {"rest http://10.0.0.1:8000": [0, 10**400]}, "adaptive")
def test_any_saved_pool_can_be_used(
    saved: list[dict[str, Any]], state: dict[str, Any] | None, policy: str
) -> None:
    """From any rows and any learnt state comes a pool that gives a session, in finite time."""
    for one in saved:
        if one.get("proxy") == row(1)["proxy"]:
            one["proxy"] = ENDPOINT.key
    policy_class = load(POLICIES[policy], setting="TEST", expected="a policy")
    bench = Bench(policy_class, [ENDPOINT])
    learnt = None if state is None else {**state, "policy": policy_class.__name__}
    snapshot.restore(bench.pool, saved, learnt, now=NOW, wall_offset=WALL - NOW)
    for session in bench.pool.sessions.values():
        assert session.site == SITE
        assert session.state is State.LIVE or session.wake <= NOW + LONGEST_REST
    got = bench.pool.try_acquire()
    assert not isinstance(got, float) or 0 < got < math.inf


cookie_rows = st.fixed_dictionaries(
    {},
    optional={
        "name": scalars | texts, "value": scalars | texts, "path": scalars | st.just("/"),
        "domain": scalars | st.sampled_from(["shop.example", ".shop.example", "com", ".co.uk"]),
        "expires": scalars, "port": scalars, "secure": scalars, "discard": scalars,
    },
)  # fmt: skip


@given(cookie_rows | values)
def test_any_saved_cookie_is_kept_or_left_out(saved: Any) -> None:
    """A saved cookie goes into the jar, or not; what goes in can be sent."""
    jar = CookieJar()
    restore_cookie(jar, saved)
    for cookie in jar:
        request = Request(f"https://{cookie.domain.lstrip('.')}{cookie.path}")
        jar.add_cookie_header(request)
        sent = b"".join(request.headers.getlist("Cookie"))
        assert not {*b"\r\n\x00"} & {*sent}


@given(st.lists(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1"))))
def test_any_cookie_of_a_site_comes_back_or_not(lines: list[str]) -> None:
    """What a jar took from a site is saved, and the next run's jar takes it, or leaves it out."""
    jar = CookieJar()
    request = Request("http://shop.example/")
    headers = {"Set-Cookie": [line.encode("utf-8", "surrogateescape") for line in lines]}
    jar.extract_cookies(Response("http://shop.example/", headers=headers), request)
    for cookie in jar:
        saved = {field: getattr(cookie, field) for field in ("name", "value", "domain", "path")}
        restore_cookie(CookieJar(), {**saved, "expires": cookie.expires, "secure": cookie.secure})


waits = (
    st.text(max_size=60) | st.integers().map(str) | st.floats().map(str)
    | st.integers(-(2**40), 2**40).map(lambda t: formatdate(t % 2**33, usegmt=True))
)  # fmt: skip


@given(waits, st.sampled_from([429, 503, 403, 200]))
def test_any_retry_after_is_bounded(value: str, status: int) -> None:
    """Whatever a site asks for, it gets nothing, or between no time and an hour."""
    seconds = parse_retry_after(value, time.time())
    assert seconds is None or 0.0 <= seconds <= LIMIT
    verdict = JUDGE.answer(answer(b"", status, retry_after=value))
    assert verdict.kind is Kind.OK or verdict.retry_after is None or verdict.retry_after <= LIMIT


@pytest.mark.soak
@pytest.mark.parametrize(
    "test",
    [
        test_any_row_is_a_session_or_refused,
        test_any_saved_pool_can_be_used,
        test_any_saved_cookie_is_kept_or_left_out,
        test_any_cookie_of_a_site_comes_back_or_not,
        test_any_retry_after_is_bounded,
        test_endpoint.test_any_text_gives_a_proxy_or_an_error_of_ours_without_the_password,
        test_endpoint.test_any_unicode_is_masked_and_parsed_without_other_errors,
        test_settings.test_any_value_is_read_or_refused_in_our_words,
    ],
)
def test_many_examples(test: Callable[[], None]) -> None:
    """The same with 10,000 examples each, and those of proxy URLs and settings."""
    file = test.__module__.replace(".", "/") + ".py"
    many = ["--hypothesis-profile=many", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *many, f"{file}::{test.__name__}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert run.returncode == 0, run.stdout
