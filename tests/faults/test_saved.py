"""Saved sessions that do not fit: taken over as far as they are good, and never more than that."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from copy import copy
from typing import TYPE_CHECKING, Any

import pytest
from scrapy.exceptions import UsageError
from scrapy.http import Request, Response
from scrapy.http.cookies import CookieJar
from scrapy.settings import Settings
from scrapy.utils.test import get_crawler

from scrapy_session_filter import snapshot, tending
from scrapy_session_filter.engines import cookies
from scrapy_session_filter.exceptions import StoreError
from scrapy_session_filter.policies.classic import ClassicPolicy
from scrapy_session_filter.proxies import ProxyEndpoint, parse_proxy
from scrapy_session_filter.rows import Unread
from scrapy_session_filter.session import Session, new_session_id
from scrapy_session_filter.stores.base import Batch
from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.pool.conftest import GATEWAY, Bench
from tests.stores.places import SITE, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WALL = 1.7e9
LIST = [f"http://user:old@10.0.0.{n}:8000" for n in range(1, 4)]


def endpoints(*urls: str) -> list[ProxyEndpoint]:
    return [parse_proxy(url, setting="TEST") for url in urls]


def restored(bench: Bench, *rows: dict[str, Any]) -> snapshot.Restored:
    return snapshot.restore(
        bench.pool, rows, None, now=bench.now, wall_offset=WALL - bench.now + 200
    )


def test_ids_say_nothing_and_do_not_repeat() -> None:
    """12 characters of a-z and 0-9 from the system's random source, other ones every time."""
    ids = {new_session_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(re.fullmatch("[a-z0-9]{12}", id_) for id_ in ids)


@pytest.mark.parametrize(
    "id_", ["", "a", "a" * 13, "A" * 12, "../../../../x", "a\r\nb", "é" * 12, "x" * 10_000, 5, None]
)
def test_strange_ids_are_left_out(id_: object) -> None:
    """A saved row whose id is not one of ours is no session."""
    bench = Bench(endpoints=[GATEWAY])
    assert restored(bench, row(1, proxy=GATEWAY.key, id=id_)).damaged == 1
    assert not bench.pool.sessions


def test_one_id_is_one_session() -> None:
    """Of two saved rows with one id the first is taken, the other counted as damaged."""
    bench = Bench(endpoints=[GATEWAY])
    found = restored(bench, *(row(1, proxy=GATEWAY.key, uses=n) for n in (3, 4)))
    assert (found.kept, found.damaged) == (1, 1)
    (session,) = bench.pool.sessions.values()
    assert session.uses == 3


def test_a_row_of_another_site_is_left_out() -> None:
    """What is saved under another site does not come into this one's pool."""
    bench = Bench(endpoints=[GATEWAY])
    assert restored(bench, row(1, site="other.example", proxy=GATEWAY.key)).damaged == 1


@pytest.mark.parametrize(
    "bad", [{"X Y": "1"}, {"Host": "a"}, {"Content-Length": "1"}, {"Via": "a\r\nb: c"}, {"Via": ""}]
)
def test_headers_that_cannot_be_sent(bad: dict[str, str]) -> None:
    """A row whose headers no identity source may give is damaged, as text or read already."""
    headers = {"User-Agent": "Mozilla/5.0", **bad}
    text = Unread(json.dumps(headers).encode())
    for value in (headers, text):
        bench = Bench(endpoints=[GATEWAY])
        assert restored(bench, row(1, proxy=GATEWAY.key, headers=value)).damaged == 1


def test_unknown_fields_are_kept() -> None:
    """What a newer release has added to a row is written back as it was."""
    saved = row(1, later={"of": [1, None]})
    session = Session.from_row(saved, None, now=1000.0, wall_offset=WALL)
    assert session.to_row(WALL)["later"] == {"of": [1, None]}


def test_a_list_that_changed_between_two_runs() -> None:
    """A proxy that is gone takes its session along; with a new password its session stays."""
    before = endpoints(*LIST)
    rows = [row(n, exit_=e.key, proxy=e.key) for n, e in enumerate(before)]
    after = endpoints(LIST[0], LIST[1].replace("old", "new"), "http://10.0.0.9:8000")
    bench = Bench(ClassicPolicy, after)
    found = restored(bench, *rows)
    assert (found.kept, found.no_proxy) == (2, 1)
    assert bench.pool.roster.removed == [rows[2]["id"]]
    kept = bench.pool.sessions
    assert kept[rows[1]["id"]].endpoint is after[1]
    assert after[1].credentials(rows[1]["id"]) == ("user", "new")
    assert kept[rows[1]["id"]].uses == rows[1]["uses"]
    used = {bench.fetch().session.endpoint for _ in range(200)}
    assert used == set(after)  # the one that is new gets a session, too


def jar_with(*lines: str, url: str = "http://shop.example/") -> CookieJar:
    jar = CookieJar()
    response = Response(url, headers={"Set-Cookie": [line.encode() for line in lines]})
    jar.extract_cookies(response, Request(url))
    return jar


def test_a_jar_is_bounded() -> None:
    """Of 50,000 cookies 50 of a domain and 300 in all are kept, none above 4 kB."""
    crawler = get_crawler()
    jars = cookies.SessionJars(crawler)
    session = Session.from_row(row(1, cookies=None), None, now=1000.0, wall_offset=WALL)
    many = jar_with("c=x; Path=/")
    (one,) = many
    for n in range(50_000):
        another = copy(one)
        another.name = f"c{n}"
        many.set_cookie(another)
    for host in range(20):
        more = jar_with(*(f"c{n}=x; Path=/" for n in range(60)), url=f"http://h{host}.example/")
        for cookie in more:
            many.set_cookie(cookie)
    for cookie in jar_with(f"long={'x' * 4100}"):
        many.set_cookie(cookie)
    jars.__dict__["_jars"] = {session.id: many}
    jars.remember(session)
    kept = session.cookies or []
    assert len(kept) == len(many) == cookies.PER_SESSION == 300
    domains = [cookie["domain"] for cookie in kept]
    assert max(map(domains.count, set(domains))) == cookies.PER_DOMAIN == 50
    assert "long" not in {cookie["name"] for cookie in kept}


NEXT_YEAR = int(time.time()) + 365 * 86400
COOKIE = {"name": "a", "value": "b", "domain": "shop.example", "path": "/", "expires": None}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, True),
        ({"expires": NEXT_YEAR}, True),
        ({"expires": 253402300799}, True),  # the year 9999
        ({"expires": 0}, False),
        ({"expires": -1}, False),
        ({"expires": 1e300}, False),
        ({"domain": ".shop.example"}, True),
        ({"domain": "com"}, False),
        ({"domain": ".com"}, False),
        ({"domain": ".co.uk"}, False),
        ({"domain": ".example.co.uk"}, True),
        ({"domain": "localhost.local"}, True),  # what the jar calls a host without a dot
        ({"domain": "127.0.0.1"}, True),
        ({"domain": ""}, False),
        ({"value": "b\r\nX: y"}, False),
        ({"name": "a\x00"}, False),
        ({"value": "x" * 5000}, False),
        ({"value": None}, True),
        ({"name": None}, False),
        ({"name": "__Host-a", "secure": True}, True),
    ],
)
def test_a_saved_cookie_passes_the_jars_own_checks(fields: dict[str, Any], kept: bool) -> None:
    """Public suffixes, what has expired, control characters and what is too long are left out."""
    jar = CookieJar()
    cookies.restore_cookie(jar, {**COOKIE, **fields})
    assert len(jar) == (1 if kept else 0)


def sessions(folder: Path, action: str, *arguments: str) -> None:
    """Run one action of ``scrapy sessions`` on a store in the folder."""
    settings = Settings({"SESSION_FILTER_STORE": f"sqlite:{folder / 's.sqlite'}"})
    tending.run(settings, action, list(arguments), status=200)


def test_import_checks_each_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that somebody edited is read as far as it is good; what is not is named by its line."""
    path = tmp_path / "sessions.jsonl"
    good = [json.dumps(row(1), indent=None), "   " + json.dumps(row(2), separators=(" , ", " : "))]
    bad = ["# mine", '{"id": "x"}', "[1]", '{"a":' * 5000, json.dumps(row(3, uses=-1)), "{"]
    path.write_text("\n".join([good[0], *bad, "", good[1]]), encoding="utf-8")
    sessions(tmp_path, "import", str(path))
    said = capsys.readouterr().out
    assert [int(n) for n in re.findall(r"jsonl:(\d+): left out", said)] == [2, 3, 4, 5, 6, 7]
    assert "2 sessions imported" in said
    sessions(tmp_path, "export", "-")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [row(1), row(2)]


def test_what_is_exported_can_be_imported(tmp_path: Path) -> None:
    """Whatever a cookie holds: what ends a line of text ends no line of JSON."""
    path, again = tmp_path / "sessions.jsonl", tmp_path / "again.jsonl"
    odd = row(1, cookies=[{**COOKIE, "value": "a\u2028b\x85c"}])
    path.write_text(json.dumps(odd, ensure_ascii=False), encoding="utf-8")
    sessions(tmp_path, "import", str(path))
    sessions(tmp_path, "export", str(again))
    sessions(tmp_path, "purge", odd["site"])
    sessions(tmp_path, "import", str(again))
    sessions(tmp_path, "export", str(path))
    assert path.read_bytes() == again.read_bytes()
    assert json.loads(path.read_text(encoding="utf-8")) == odd


def test_import_names_lines_that_are_no_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in another encoding is read as far as it can be."""
    path = tmp_path / "sessions.jsonl"
    path.write_bytes(json.dumps(row(1)).encode() + b'\n{"id": "caf\xe9"}\n')
    sessions(tmp_path, "import", str(path))
    said = capsys.readouterr().out
    assert "jsonl:2: left out" in said
    assert "1 sessions imported" in said


def test_import_names_what_no_store_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that are sessions, but cannot be saved, do not count as imported."""
    path = tmp_path / "sessions.jsonl"
    no_exit = row(1)
    del no_exit["exit"]
    big = row(2, cookies=[{**COOKIE, "value": "x" * 70_000}])
    keys = [row(n, site=site) for n, site in ((3, "a\0b"), (4, "a\ud800b"), (5, "a" * 3000))]
    rows = [no_exit, big, *keys, row(6, learnt=float("nan")), row(7)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    sessions(tmp_path, "import", str(path))
    said = capsys.readouterr().out
    assert [int(n) for n in re.findall(r"jsonl:(\d+): left out", said)] == [1, 2, 3, 4, 5, 6]
    assert "1 sessions imported" in said
    assert "refused" not in said


def test_an_export_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No text in a cookie breaks it, and one that fails leaves the last one as it was."""
    path = tmp_path / "sessions.jsonl"
    path.write_text(json.dumps(row(1, cookies=[{**COOKIE, "value": "\ud800"}])), encoding="utf-8")
    sessions(tmp_path, "import", str(path))
    sessions(tmp_path, "export", str(path))
    before = path.read_bytes()
    assert json.loads(before)["cookies"][0]["value"] == "\ud800"
    assert path.stat().st_mode & 0o777 == 0o600

    def fails(store: SQLiteStore) -> Iterator[dict[str, Any]]:
        yield row(1)
        raise OSError

    monkeypatch.setattr(SQLiteStore, "rows", fails)
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        sessions(tmp_path, "export", str(path))
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.new"))


def test_reports_pass_over_what_is_no_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A row that anybody may have put there is named, and the others are shown."""
    store = SQLiteStore(tmp_path / "s.sqlite")
    store.open()
    store.apply(Batch("bad", [row(1), row(2, born="x")]))
    store.close()
    for action in (["report"], ["show", SITE]):
        sessions(tmp_path, *action)
        assert row(1)["id"] in capsys.readouterr().out
        assert f"{row(2)['id']} is left out" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("action", ["report", "purge", "show"])
def test_a_site_that_is_unknown_is_said_to_be(tmp_path: Path, action: str) -> None:
    """A slip of the pen is no success, and makes no site; a site that was purged is gone."""
    path = tmp_path / "sessions.jsonl"
    path.write_text(json.dumps(row(1)), encoding="utf-8")
    sessions(tmp_path, "import", str(path))
    with pytest.raises(StoreError, match=r"shop\.exmaple"):
        sessions(tmp_path, action, "shop.exmaple")
    sessions(tmp_path, "purge", row(1)["site"])
    with pytest.raises(StoreError):
        sessions(tmp_path, action, row(1)["site"])


@pytest.mark.parametrize(
    ("action", "arguments"), [("list", ["a"]), ("report", ["a", "b"]), ("judge", ["http://[bad"])]
)
def test_arguments_that_make_no_sense(tmp_path: Path, action: str, arguments: list[str]) -> None:
    """They are refused, and none of them is left out silently."""
    with pytest.raises(UsageError):
        sessions(tmp_path, action, *arguments)


def test_a_reader_that_has_had_enough(tmp_path: Path) -> None:
    """``scrapy sessions export - | head -1`` ends without a traceback."""
    path = tmp_path / "sessions.jsonl"
    path.write_text("\n".join(json.dumps(row(n)) for n in range(1, 400)), encoding="utf-8")
    sessions(tmp_path, "import", str(path))
    command = [sys.executable, "-m", "scrapy", "sessions", "export", "-"]
    store = f"SESSION_FILTER_STORE=sqlite:{tmp_path / 's.sqlite'}"
    with subprocess.Popen(
        [*command, "-s", store], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert json.loads(running.stdout.readline())["site"] == row(1)["site"]
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(30) == 0


def test_reports_are_plain_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A site's key with escape codes or line ends in it cannot paint the terminal."""
    path = tmp_path / "sessions.jsonl"
    site = "a\x1b[31m\n<script>b"
    path.write_text(json.dumps(row(1, site=site)), encoding="utf-8")
    sessions(tmp_path, "import", str(path))
    sessions(tmp_path, "list")
    sessions(tmp_path, "report")
    said = capsys.readouterr().out
    assert r"a\x1b[31m\n<script>b" in said
    assert "\x1b" not in said
    assert SITE not in said
    path.write_text(json.dumps(row(2, cookies=None, learnt={"a": "\x9b31m"})), encoding="utf-8")
    sessions(tmp_path, "import", str(path))
    sessions(tmp_path, "show", row(2)["id"])
    assert "\x9b" not in capsys.readouterr().out
