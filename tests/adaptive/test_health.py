"""The site's health, on a clock of our own."""

from __future__ import annotations

import random

import pytest

from scrapy_session_filter.policies.health import SiteHealth


def fail(health: SiteHealth, times: int, *, predicted: float = 0.95, now: float = 0.0) -> None:
    for _ in range(times):
        health.failed(now, predicted=predicted)


def sent_into(health: SiteHealth, seconds: float, concurrency: int) -> int:
    """Send as fast as the gate allows into a dead site that answers after half a second."""
    sent, now = 0, 0.0
    answers: list[float] = []
    while now < seconds:
        while answers and answers[0] <= now:
            answers.pop(0)
            health.failed(now, predicted=0.95)
        while len(answers) < concurrency and health.gate(now) == 0:
            health.probe(now)
            answers.append(now + 0.5)
            sent += 1
        now += 0.05
    return sent


def test_five_surprising_failures_in_a_row_mean_that_the_site_is_down() -> None:
    """Where .95 was predicted, it takes five failures, and not fewer, to ring the alarm."""
    health = SiteHealth()
    fail(health, 4)
    assert not health.down
    assert health.gate(0.0) == 0.0
    fail(health, 1)
    assert health.down
    assert health.gate(0.0) == pytest.approx(1.0)


def test_expected_failures_never_ring_the_alarm() -> None:
    """A list of which nearly all is banned fails all day and is no outage."""
    health = SiteHealth()
    fail(health, 10_000, predicted=0.02)
    assert not health.down


def test_one_success_clears_a_suspicion() -> None:
    """Failures with a success between them are no outage, however many."""
    health = SiteHealth()
    for _ in range(50):
        fail(health, 4)
        health.passed(0.0, sent=0.0)
    assert not health.down
    assert health.since is None


@pytest.mark.parametrize("failures", [5, 60])
def test_an_outage_ends_with_a_few_successes(failures: int) -> None:
    """After the first of them trials go out at once; the second or third brings full speed back."""
    health = SiteHealth()
    fail(health, failures)
    now, seen = 1.0, 0
    while health.down:
        assert health.gate(now) <= 0.5
        now += health.gate(now)
        health.probe(now)
        health.passed(now, sent=now)
        seen += 1
    assert 2 <= seen <= 3
    assert now <= 2.0
    assert health.since is None
    assert health.gate(now) == 0.0


def test_what_gets_through_by_chance_does_not_end_an_outage() -> None:
    """Of 64 requests in flight two get through, and of the probes one in twenty: the site stays down."""
    health = SiteHealth()
    fail(health, 40)
    health.passed(0.0, sent=0.0)
    fail(health, 20)
    health.passed(0.0, sent=0.0)
    assert health.down
    rng, now, sent, passed = random.Random(1), 0.0, 0, 0
    while now < 290.0:
        if health.gate(now) == 0.0:
            health.probe(now)
            sent += 1
            if rng.random() < 0.05:
                passed += 1
                health.passed(now, sent=now)
            else:
                fail(health, 1, now=now)
            assert health.down
        now += 0.1
    assert passed >= 2
    assert sent < 100


def test_what_was_sent_before_says_nothing_of_an_outage() -> None:
    """A slow answer to a request that went out before the first failure is no sign of an end."""
    health = SiteHealth()
    fail(health, 5, now=10.0)
    for _ in range(10):
        health.passed(11.0, sent=9.0)
    assert health.down


def test_a_dead_site_gets_few_requests() -> None:
    """Into 90 s of outage go at most the concurrency and 40 more."""
    assert sent_into(SiteHealth(), 90.0, 16) <= 16 + 40
    assert sent_into(SiteHealth(), 90.0, 64) <= 64 + 40


def test_the_site_is_probed_often_enough_to_notice_its_return() -> None:
    """However long it was down, less than 15 s pass between two probes."""
    health = SiteHealth()
    fail(health, 5)
    now, gaps, last = 0.0, [], 0.0
    while now < 290.0:
        if health.gate(now) == 0.0:
            health.probe(now)
            gaps.append(now - last)
            last = now
            health.failed(now, predicted=0.95)
        now += 0.1
    assert max(gaps) < 15.0


def test_the_latch_expires() -> None:
    """After 300 s without a success we act as if the sessions, not the site, were to blame."""
    health = SiteHealth()
    fail(health, 5)
    assert health.gate(301.0) == 0.0
    assert not health.down


def test_trials_that_were_expected_to_fail_end_the_pause() -> None:
    """After the pause, failures that surprise nobody do not make it an outage again."""
    health = SiteHealth()
    fail(health, 5)
    fail(health, 8, predicted=0.1, now=6.0)
    assert not health.down


def test_a_restart_stays_suspicious() -> None:
    """A dump taken in an outage makes the loaded one ring after two or three failures."""
    health = SiteHealth()
    fail(health, 5)
    again = SiteHealth()
    again.load(health.dump())
    fail(again, 3)
    assert again.down


@pytest.mark.parametrize(
    "state", [{}, {"suspicion": "x", "pause": None}, {"suspicion": 1e9, "pause": -1}]
)
def test_damaged_state_is_ignored(state: dict[str, object]) -> None:
    """What is not a number in range leaves a healthy start."""
    health = SiteHealth()
    health.load(state)
    assert health.dump() == SiteHealth().dump()


def test_it_explains_an_outage_only() -> None:
    """There is a sentence while the site is down, and none otherwise."""
    health = SiteHealth()
    assert health.explain(0.0) == ""
    fail(health, 5)
    assert "looks down" in health.explain(2.0)
