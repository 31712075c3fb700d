"""Policies as a crawl sees them: each one's habit, and one of the user's own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.crawls.scenery import assert_clean, by_session, stat, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopback import World

    from tests.world.crawls import Crawler


def test_a_policy_of_ones_own(make_world: Callable[..., World], crawl: Crawler) -> None:
    """A small class named by its import path picks the sessions."""
    world = make_world(20, proxy={"in_turn": True})
    (crawl.folder / "mine.py").write_text(
        """
from scrapy_session_filter.policies import Decision, Policy

class Newest(Policy):
    def __init__(self, context):
        super().__init__(context)
        self.line = []

    def choose(self, ask):
        for session in reversed(self.line):
            if session.id not in ask.avoid:
                return Decision.use(session, "newest")
        return Decision.new() if ask.can_create else Decision.hold(1.0)

    def ready(self, session):
        self.line.append(session)

    def busy(self, session):
        self.line.remove(session)
"""
    )
    world.site.on("/page/3", "forbidden", times=1)
    pages = urls(world, 12)
    result = crawl(pages, through(world, POLICY="mine.Newest", CONCURRENT_REQUESTS=1))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    assert stat(result, "sessions/created") == 2
    assert stat(result, "picks/newest") == 13 - 2
    assert [len(visits) for visits in by_session(world).values()] == [4, 9]


def test_classic_is_the_articles_algorithm(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """New sessions come with the chance 1 - working / MAX_SESSIONS; a block deletes one."""
    world = make_world(200, proxy={"in_turn": True})
    world.ban(world.exits[::4])
    pages = urls(world, 150)
    result = crawl(pages, through(world, POLICY="classic", MAX_SESSIONS=10))
    assert_clean(world, result)
    assert set(result.pages) == set(pages)
    # 10 working ones are what one aspires to; about a quarter of those made are banned
    working = stat(result, "sessions/created") - stat(result, "sessions/retired")
    assert 10 <= working <= 26  # as many as run at once may come in above
    assert stat(result, "sessions/retired") == world.site.blocked
    assert stat(result, "picks/working") > 100


def test_until_blocked_stays_with_one_session(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """One session serves everything until it is blocked, then the next does."""
    world = make_world(20, proxy={"in_turn": True})
    world.site.on("/page/9", "forbidden", times=1)
    result = crawl(urls(world, 20), through(world, POLICY="until-blocked", CONCURRENT_REQUESTS=1))
    assert_clean(world, result)
    assert [len(visits) for visits in by_session(world).values()] == [10, 11]


def test_round_robin_and_least_used_are_even(
    make_world: Callable[..., World], crawl: Crawler
) -> None:
    """Every session of the pool serves the same number of pages."""
    world = make_world(20, proxy={"in_turn": True})
    for policy in ("round-robin", "least-used"):
        world.site.forget_visits()
        result = crawl(urls(world, 30), through(world, POLICY=policy, MAX_SESSIONS=5))
        assert_clean(world, result)
        assert Counter(len(v) for v in by_session(world).values()) == {6: 5}
