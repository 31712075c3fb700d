"""What a block is about decides what pays for it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.policies.adaptive import AdaptivePolicy
from scrapy_session_filter.policies.simple import RandomPolicy
from scrapy_session_filter.proxies import EndpointHealth, SiteProxies, parse_proxy
from scrapy_session_filter.session import Lease, State
from scrapy_session_filter.verdict import OK, About, Kind, Strength, Verdict

from .conftest import GATEWAY, Bench, proxies

if TYPE_CHECKING:
    from scrapy_session_filter.proxies import ProxyEndpoint

USER_AGENT = Verdict(Kind.BLOCKED, "user-agent-ban", about=About.USER_AGENT)
COUNTRY = Verdict(Kind.BLOCKED, "country-ban", about=About.COUNTRY)
ADDRESS = Verdict(Kind.BLOCKED, "address-ban", about=About.ADDRESS)
STRONG = Verdict(Kind.BLOCKED, "captcha-page")
WEAK = Verdict(Kind.BLOCKED, "status-403", Strength.WEAK)


@pytest.mark.parametrize("policy", [RandomPolicy, AdaptivePolicy])
def test_user_agent(policy: type) -> None:
    """The identity goes for good, its address is free at once for the next one."""
    bench = Bench(policy, proxies(1), max_errors=5)
    first = bench.fetch(USER_AGENT)
    assert first.session.state is State.RETIRED
    assert bench.counts["sessions/retired/user-agent"] == 1
    second = bench.lease()
    assert second.session is not first.session
    assert second.session.endpoint is first.session.endpoint


@pytest.mark.parametrize("policy", [RandomPolicy, AdaptivePolicy])
def test_address(policy: type) -> None:
    """The address rests on this site."""
    bench = Bench(policy, proxies(1))
    bench.fetch(ADDRESS)
    assert bench.wait() > 0


def national(*countries: str) -> list[ProxyEndpoint]:
    """Return a proxy in each country, as a provider writes it."""
    return [
        parse_proxy(f"http://user{n}-country-{code}:x@10.0.0.{n + 1}:8000", setting="TEST")
        for n, code in enumerate(countries)
    ]


def test_country() -> None:
    """After a country ban exits of other countries come first, until one of it gets through."""
    for seed in range(20):
        bench = Bench(RandomPolicy, national(*["us"] * 9, "de"), seed=seed)
        first = bench.fetch(COUNTRY)
        country = first.session.endpoint and first.session.endpoint.country
        second = bench.lease()
        assert second.session.endpoint is not None
        if country == "us":
            assert second.session.endpoint.country == "de"
        bench.report(second)
        third = bench.lease()
        assert third.session.endpoint is not None
        assert third.session.endpoint.country == "us"  # there is no other


def test_country_of_gateways() -> None:
    """Of several gateways those of other countries are taken."""
    urls = [f"http://u-cc-{code}-{{session}}:x@gate.example:80" for code in ("us", "fr", "fr")]
    endpoints = [parse_proxy(url, setting="TEST") for url in urls[:2]]
    found = SiteProxies(endpoints, EndpointHealth(), random.Random(1))
    found.refuse_country(endpoints[0])
    taken = [found.take(0.0) for _ in range(20)]
    assert {endpoint.country for endpoint in taken if endpoint} == {"fr"}
    found.worked(endpoints[0])
    taken = [found.take(0.0) for _ in range(20)]
    assert {endpoint.country for endpoint in taken if endpoint} == {"fr", "us"}


@pytest.mark.parametrize(
    ("credentials", "country"),
    [
        ("brd-customer-x-zone-y-country-us-session-1:pw", "us"),
        ("customer-name-cc-GB-sessid-1:pw", "gb"),
        ("user:pw_country-de_session-x", "de"),
        ("user-country-united:pw", None),
        ("account-us:pw", None),
        ("soccc-us:pw", None),
    ],
)
def test_country_in_credentials(credentials: str, country: str | None) -> None:
    """The country is read where providers write it, and nowhere else."""
    assert parse_proxy(f"http://{credentials}@10.0.0.1:80", setting="TEST").country == country


def test_weak_block_of_a_new_session() -> None:
    """At a gateway one that never worked rests for a bare status; if it repeats, it goes.

    Only where another session gets through, that is: else the site refuses everybody.
    """
    for others_pass in (False, True):
        bench = Bench(AdaptivePolicy, [GATEWAY])
        proven = bench.fetch(STRONG).session
        session = bench.fetch(WEAK).session
        assert (proven.state, session.state) == (State.RETIRED, State.RESTING)
        bench.now = session.wake
        if others_pass:
            bench.fetch(OK, avoid=[session.id])
        again = bench.pool.acquire_pinned(session.id)
        assert isinstance(again, Lease)
        bench.now += 1.0
        bench.report(again, WEAK)
        assert session.state is (State.RETIRED if others_pass else State.RESTING)


@pytest.mark.parametrize("verdict", [STRONG, WEAK, Verdict(Kind.PROXY_ERROR, "timeout")])
def test_a_late_answer_from_before_a_rest(verdict: Verdict) -> None:
    """A session that has come back keeps its place when a slow answer of its old block comes in."""
    bench = Bench(AdaptivePolicy, proxies(1))
    for _ in range(10):
        bench.fetch()

    def lease() -> Lease:
        while isinstance(got := bench.pool.try_acquire(), float):
            assert bench.now < 2000.0
            bench.now += got
        return got

    slow, blocked = lease(), lease()
    bench.now += 1.0
    bench.report(blocked, WEAK)
    bench.report(lease())  # the probe
    bench.report(slow, verdict)
    assert lease().session is slow.session
