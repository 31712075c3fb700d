"""The garbage collector leaves alone what stays for the whole crawl, and only that long."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.garbage import (
    MANY,
    NEWER,
    OLDER,
    crawl_begins,
    crawl_ended,
    crawl_is_made,
    look_again,
    set_aside,
)
from tests.crawls.scenery import assert_clean, through

if TYPE_CHECKING:
    from collections.abc import Iterator

    from loopback import World

    from tests.world.crawls import Crawler

TELLS = """
import gc, scrapy
from scrapy import signals

class Tells(scrapy.Spider):
    name = "tells"

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        crawler.signals.connect(spider.closed_at_last, signal=signals.engine_stopped)
        return spider

    async def start(self):
        yield scrapy.Request("http://shop.example/page/1")

    def parse(self, response):
        yield {"set aside": gc.get_freeze_count(), "all": len(gc.get_objects())}

    def closed_at_last(self):
        self.logger.info("left: %d", gc.get_freeze_count())
"""


class Crawl:
    """Stands for a crawl; refers to itself in a circle, as crawls do."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    assert gc.get_freeze_count() == 0
    threshold = gc.get_threshold()
    yield
    assert gc.isenabled()
    assert gc.get_threshold() == threshold
    look_again()
    assert gc.get_freeze_count() == 0


@contextmanager
def running(crawl: object) -> Iterator[None]:
    crawl_is_made()
    crawl_begins(crawl)
    try:
        yield
    finally:
        crawl_ended(crawl)


def test_a_real_crawl(world: World, crawl: Crawler) -> None:
    """Most of what is alive while pages come in was set aside, and nothing is afterwards."""
    result = crawl(TELLS, through(world))
    assert_clean(world, result)
    (item,) = result.items
    assert item["set aside"] > 2 * item["all"]
    assert "left: 0" in result.log


def test_until_the_last_crawl_has_ended() -> None:
    """Crawls beside one another: what is alive as the first begins, until the last ends."""
    first, second = Crawl(), Crawl()
    with running(second):
        with running(first):
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() > 0
        crawl_ended(first)  # a second time
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_one_crawl_does_not_speak_for_another() -> None:
    """A crawl that unloads a large site beside another one leaves aside what that one has there."""
    with running(Crawl()):
        with running(Crawl()):
            look_again()
            assert gc.get_freeze_count() > 0
        look_again()
        assert gc.get_freeze_count() == 0


def test_what_is_left_of_a_crawl_is_not_kept() -> None:
    """One crawl after another: what the last one left is gone once the next has begun."""
    first = Crawl()
    left = weakref.ref(first)
    with running(first):
        pass
    del first
    with running(Crawl()):
        assert left() is None


def test_new_objects_are_looked_through_less_often() -> None:
    """A crawl has the threshold that Python has had since 3.13, and leaves the one it found."""
    before = gc.get_threshold()
    gc.set_threshold(*OLDER)
    try:
        with running(Crawl()):
            with running(Crawl()):
                assert gc.get_threshold() == NEWER
            assert gc.get_threshold() == NEWER
        assert gc.get_threshold() == OLDER
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("own", [(5000, 5, 5), NEWER])
def test_a_threshold_of_the_programs_own_stays(own: tuple[int, int, int]) -> None:
    """Who has set a threshold finds it so, in a crawl and after it."""
    before = gc.get_threshold()
    gc.set_threshold(*own)
    try:
        with running(Crawl()):
            assert gc.get_threshold() == own
        assert gc.get_threshold() == own
    finally:
        gc.set_threshold(*before)


def test_a_threshold_set_during_a_crawl_stays() -> None:
    """Who sets one while a crawl runs keeps it."""
    before = gc.get_threshold()
    gc.set_threshold(*OLDER)
    try:
        with running(Crawl()):
            gc.set_threshold(1000, 10, 10)
        assert gc.get_threshold() == (1000, 10, 10)
    finally:
        gc.set_threshold(*before)


def test_what_the_program_has_set_aside_stays() -> None:
    """Who uses gc.freeze finds things as they were left."""
    gc.freeze()
    before = gc.get_freeze_count()
    with running(Crawl()):
        assert gc.get_freeze_count() <= before
        with set_aside(MANY):
            pass
        assert gc.get_freeze_count() <= before
    assert gc.get_freeze_count() > 0
    gc.unfreeze()


def test_many_sessions_are_set_aside() -> None:
    """The collector looks at nothing while many come in, and not at them until the crawl ends."""
    with running(Crawl()):
        before = gc.get_freeze_count()
        with set_aside(MANY):
            assert not gc.isenabled()
            with set_aside(MANY):  # another site, at the same time
                pass
            assert not gc.isenabled()
            assert gc.get_freeze_count() <= before
            sessions: list[list[int]] = [[] for _ in range(20 * MANY)]
        assert gc.isenabled()
        assert gc.get_freeze_count() > before + len(sessions) / 2  # what is freed is not counted
    assert gc.get_freeze_count() == 0


def test_nothing_is_set_aside_without_a_crawl() -> None:
    """A command that reads a store leaves the collector as it was."""
    with set_aside(MANY):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_few_sessions_are_not() -> None:
    """For a site with fewer all stays as it is."""
    with set_aside(MANY - 1):
        assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_collector_that_is_off_stays_off() -> None:
    """Who has switched the collector off finds it so."""
    gc.disable()
    try:
        with set_aside(MANY):
            pass
        assert not gc.isenabled()
        assert gc.get_freeze_count() == 0
    finally:
        gc.enable()
