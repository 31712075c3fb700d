"""A real crawl killed in its middle: what the site has seen of its sessions is in the store."""

from __future__ import annotations

import random
import re
import shutil
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from scrapy_session_filter.proxies import parse_proxy
from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.crawls.fleet import at_most
from tests.crawls.scenery import cookie, through, urls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import Visit, World

    from scrapy_session_filter.session import Row
    from tests.world.crawls import Crawler

SAVE_INTERVAL = 0.5
OLD = SAVE_INTERVAL + 1.5
"""Seconds after which everything of a session must have been saved, on an idle machine."""
JUDGED = 1.0
"""Seconds after which a rest or a retirement must have been saved, likewise."""
SLOWEST = 8.0
"""Times slower than an idle machine, at which it is no use to wait even longer."""
CLOCK = time.time() - time.monotonic()
_VERDICT = re.compile(
    r"^([\d.]+) <GET .*> through session (\w+): (BLOCKED|THROTTLED)", re.MULTILINE
)
AN_HOUR = {"like": "too-many", "headers": {"Retry-After": "3600"}}


class Witness:
    """What the site saw of the sessions on each proxy of a list, and what the log says of them.

    Sessions take one request at a time, so that no two of its requests race for the cookie.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.slow = 1.0  # how much slower than an idle machine this one was
        proxies = zip(world.exits, world.proxies(), strict=True)
        self.exit_of = {parse_proxy(url, setting="test").key: exit_ for exit_, url in proxies}
        self.out: set[str] = set()  # ids of sessions that must not be used again
        self.since: dict[str, float] = {}  # when an exit's earlier visits stopped to matter

    def check(self, rows: list[Row], log: str, end: float) -> int:
        """Compare rows with what was before ``end``; returns how many sessions had to be there."""
        used = set(re.findall(r"goes through session (\w+) of", log))
        assert not self.out & used, "a retired or resting session came back"
        self._check_verdicts({row["id"]: row for row in rows}, log, end + CLOCK)
        saved = {self.exit_of[row["proxy"]]: row for row in rows}
        assert len(saved) == len(rows)
        must = 0
        for exit_, visits in self._by_exit().items():
            if exit_ not in saved or visits[-1].status != 200:
                # refused, or too young to be saved: gone, and rightly so
                self.since[exit_] = time.monotonic()
            if visits[-1].status == 200:
                must += _check_session(saved.get(exit_), visits, end - OLD * self.slow)
        return must

    def _check_verdicts(self, saved: dict[str, Row], log: str, end: float) -> None:
        for when, id_, kind in _VERDICT.findall(log):
            if float(when) > end - JUDGED * self.slow:
                continue
            self.out.add(id_)
            if kind == "BLOCKED":
                assert id_ not in saved, f"the retired session {id_} is still there"
            else:
                assert saved[id_]["rest"] > end + 3000, f"the rest of {id_} is forgotten"

    def check_return(self, rows: list[Row], since: float) -> int:
        """Compare the visits since a restart with the rows it found; returns how many came back."""
        saved = {self.exit_of[row["proxy"]]: row for row in rows}
        came = 0
        for exit_, visits in self._by_exit().items():
            new = [visit for visit in visits if visit.time > since]
            if not new or exit_ not in saved:
                continue
            row = saved[exit_]
            assert row["rest"] is None, f"{exit_}: it should rest"
            if row["cookies"]:
                came += 1
                assert _cookies(row) == {"visitor": cookie(new[0])}
                assert row["headers"]["User-Agent"] == new[0].headers["user-agent"]
        return came

    def _by_exit(self) -> dict[str, list[Visit]]:
        found: dict[str, list[Visit]] = defaultdict(list)
        for visit in list(self.world.site.visits):
            if visit.time > self.since.get(visit.exit, 0.0):
                found[visit.exit].append(visit)
        return found


def _check_session(row: Row | None, visits: list[Visit], saved_at: float) -> bool:
    old = [visit for visit in visits if visit.time < saved_at]
    if not old:
        return False
    ages = [(round(saved_at - visit.time, 2), visit.path, visit.status) for visit in visits]
    assert row is not None, f"the session on {old[-1].exit} is lost: {ages}"
    for name in ("User-Agent", "Accept-Language"):
        assert row["headers"][name] == old[-1].headers[name.lower()]
    if cookie(old[-1]):
        saved = f"{row['uses']} uses and {row['oks']} successes saved, {len(old)} to be"
        assert _cookies(row) == {"visitor": cookie(old[-1])}, saved
    return True


def _cookies(row: Row) -> dict[str, Any]:
    return {saved["name"]: saved["value"] for saved in row["cookies"] or ()}


def rows_of(folder: Path) -> list[Row]:
    """Return the rows of a copy of the store: the next crawl opens the original by itself."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for path in folder.glob("sessions.sqlite*"):
        (shutil.copytree if path.is_dir() else shutil.copy2)(path, copy / path.name)
    store = SQLiteStore(copy / "sessions.sqlite")
    store.open()
    rows = list(store.rows())
    store.close()
    return rows


def kill_crawls(
    make_world: Callable[..., World],
    crawl: Crawler,
    kills: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rng = random.Random(kills)
    world = make_world(50 + 3 * kills, tls=False)
    witness = Witness(world)
    world.site.on("/page/*", {"like": "ok", "delay": 0.08})  # not at its end when it is killed
    settings = through(
        world, PROXIES=world.proxies(), STORE="sqlite:sessions.sqlite", POLICY="round-robin",
        CONCURRENCY=1, SAVE_INTERVAL=SAVE_INTERVAL, LOG_FORMAT="%(created)f %(message)s",
        MAX_SESSIONS=40 + 2 * kills,
    )  # fmt: skip
    pages = urls(world, 4000)
    rows: list[Row] = []
    there = back = 0
    for _ in range(kills):
        since = time.monotonic()
        seen = world.site.visit_count
        running = crawl.start(pages, settings)
        while world.site.visit_count == seen:
            assert running.process.poll() is None, running.log()
            time.sleep(0.01)
        witness.slow = min(at_most(1.0), SLOWEST)
        end = time.monotonic() + rng.uniform(0.2, 4.0) * witness.slow
        # one session is retired and one rests soon, and again at some moment up to the end
        for latest in (0.3, 1.0):
            for answer in ("forbidden", AN_HOUR):
                time.sleep(rng.uniform(0, latest) * max(0.0, end - time.monotonic()))
                world.site.on("/page/*", answer, times=1)
        time.sleep(max(0.0, end - time.monotonic()))
        end = time.monotonic()
        killed = running.kill()
        assert killed.exit_code < 0
        assert "cannot" not in killed.log, killed.log
        assert "was damaged" not in killed.log, killed.log
        witness.slow = max(witness.slow, at_most(1.0))
        back += witness.check_return(rows, since)
        rows = rows_of(crawl.folder)
        there += witness.check(rows, killed.log, end)
    assert len(witness.out) >= kills // 2
    assert there > 5 * kills
    assert back > 5 * (kills - 1)
    assert not caplog.records
    last = crawl(pages[:40], settings)
    assert last.exit_code == 0
    assert len(last.pages) == 40
    assert last.stats["session_filter/sessions/restored"] == len(rows)
    assert not world.site.direct_visits


def test_killed_crawls(
    make_world: Callable[..., World], crawl: Crawler, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed 4 times, a crawl finds its sessions with proxy, headers, cookies, and every verdict."""
    kill_crawls(make_world, crawl, 4, caplog)


@pytest.mark.soak
def test_killed_crawls_often(
    make_world: Callable[..., World], crawl: Crawler, caplog: pytest.LogCaptureFixture
) -> None:
    """The same, killed 50 times."""
    kill_crawls(make_world, crawl, 50, caplog)
