"""Where a store file may lie, who may read it, and what becomes of files of other releases."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from scrapy_session_filter.exceptions import ConfigurationError, StoreError, StoreVersionError
from scrapy_session_filter.stores import sqlite_file, sqlite_schema
from scrapy_session_filter.stores.base import Batch
from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.stores.places import SITE, row
from tests.stores.processes import ROOT

SAMPLES = Path(__file__).parent / "samples"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def use(path: Path) -> None:
    """Open, save and close, twice, so that all files are there."""
    for n in range(2):
        store = SQLiteStore(path)
        store.open()
        store.apply(Batch(str(n), [row(n)]))
        store.close()


def test_all_files_are_private(tmp_path: Path) -> None:
    """Under any umask files are for their owner alone, and so are directories that it made."""
    before = os.umask(0)
    try:
        use(tmp_path / "a" / "b" / "sessions.sqlite")
    finally:
        os.umask(before)
    found = list((tmp_path / "a").rglob("*"))
    names = {path.name for path in found}
    assert {"sessions.sqlite", "sessions.sqlite.bak", "sessions.sqlite-journal"} <= names
    assert {mode(path) for path in found if path.is_file()} == {0o600}
    assert {mode(path) for path in [tmp_path / "a", *found] if path.is_dir()} == {0o700}


def test_git_ignores_what_it_made(tmp_path: Path) -> None:
    """A directory that the store makes says that git must not keep it; others are left alone."""
    use(tmp_path / "made" / "sessions.sqlite")
    use(tmp_path / "sessions.sqlite")
    assert (tmp_path / "made" / ".gitignore").read_text() == "*\n"
    assert not (tmp_path / ".gitignore").exists()


def test_takes_rights_from_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that others could read or write is made private, with one warning."""
    file = tmp_path / "sessions.sqlite"
    use(file)
    file.chmod(0o666)
    use(file)
    assert mode(file) == 0o600
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "666" in record.getMessage()


def test_writes_where_a_link_leads(tmp_path: Path) -> None:
    """The link stays a link; its target is written."""
    target = tmp_path / "real" / "sessions.sqlite"
    target.parent.mkdir()
    link = tmp_path / "link.sqlite"
    link.symlink_to(target)
    use(link)
    assert link.is_symlink()
    assert target.is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link.sqlite"}


def make_directory(path: Path) -> None:
    path.mkdir()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(str(path))


def make_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_file_for_parent(path: Path) -> None:
    path.parent.rmdir()
    path.parent.touch()


@pytest.mark.parametrize(
    "make",
    [make_directory, make_fifo, make_socket, make_device, make_loop, make_file_for_parent],
)
def test_refuses_what_is_no_file(tmp_path: Path, make: object) -> None:
    """What cannot be a store file is refused by the setting's name, and left as it is."""
    path = tmp_path / "d" / "s"
    path.parent.mkdir()
    make(path)  # type: ignore[operator]
    with pytest.raises(ConfigurationError, match=r"SESSION_FILTER_STORE = .sqlite:.*expected"):
        SQLiteStore(path).open()


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "/proc/nowhere/s.sqlite"])
def test_refuses_impossible_paths(path: str) -> None:
    """A path that no file can have is refused by the setting's name."""
    with pytest.raises(ConfigurationError, match="SESSION_FILTER_STORE"):
        SQLiteStore(path).open()


AS_NOBODY = """
import os, sys
from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.stores.sqlite import SQLiteStore
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    SQLiteStore(sys.argv[1]).open()
except ConfigurationError as error:
    sys.stdout.write(str(error))
"""


@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "expected"),
    [
        (0o444, 0o777, "a file that can be read and written"),
        (0o222, 0o777, "a file that can be read and written"),
        (0o666, 0o555, "a file in a directory that can be written"),
        (None, 0o555, "a file in a directory that can be written"),
    ],
)
def test_refuses_what_it_may_not_write(
    file_mode: int | None, directory_mode: int, expected: str
) -> None:
    """A file or directory that this user may not write is refused by the setting's name."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        directory = Path(name, "d")
        directory.mkdir()
        file = directory / "s.sqlite"
        if file_mode is not None:
            file.touch()
            file.chmod(file_mode)
        directory.chmod(directory_mode)
        said = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(file)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        directory.chmod(0o755)
    assert said.stderr == ""
    assert said.stdout.startswith("SESSION_FILTER_STORE = 'sqlite:")
    assert expected in said.stdout


def test_leaves_other_programs_databases_alone(tmp_path: Path) -> None:
    """A sound SQLite file of another program is refused and not changed by a byte."""
    file = tmp_path / "items.sqlite"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE items(name)")
        db.commit()
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match="no other program uses"):
        SQLiteStore(file).open()
    assert file.read_bytes() == before


def test_refuses_a_newer_release(tmp_path: Path) -> None:
    """A file of a newer schema is left byte-identical, and no lock stays behind."""
    file = tmp_path / "sessions.sqlite"
    use(file)
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {sqlite_schema.VERSION + 1}")
    before = file.read_bytes()
    backup = (tmp_path / "sessions.sqlite.bak").read_bytes()
    for _ in range(2):
        with pytest.raises(StoreVersionError, match="newer release"):
            SQLiteStore(file).open()
    assert file.read_bytes() == before
    assert (tmp_path / "sessions.sqlite.bak").read_bytes() == backup
    assert not list(tmp_path.glob("*.corrupt-*"))


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("v*.sqlite")), ids=lambda path: path.name)
def test_opens_the_file_of_every_release(tmp_path: Path, sample: Path) -> None:
    """A store file of each schema version opens, with all that was in it."""
    file = tmp_path / "sessions.sqlite"
    shutil.copyfile(sample, file)
    file.chmod(0o600)
    store = SQLiteStore(file)
    store.open()
    assert store.claim(SITE, []).rows == [row(1), row(2, rest=1.8e9, uses=40, blocks=3)]
    assert store.claim("b.example", []).rows == [row(3, site="b.example", exit_="http://p:1")]
    assert store.site_state(SITE) == {"pace": 1.5, "rests": {"http://p:1": 3}}
    assert store.endpoint_states() == {"http://p:1": {"fails": 2}}
    store.apply(Batch("after", [row(4)]))
    store.close()
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (sqlite_schema.VERSION,)


def test_there_is_a_sample_of_every_release() -> None:
    """Each schema version has its sample."""
    names = {path.name for path in SAMPLES.glob("v*.sqlite")}
    assert names == {f"v{version}.sqlite" for version in range(1, sqlite_schema.VERSION + 1)}


def test_migrates_an_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of an older schema is copied to the backup as it was, then lifted."""
    file = tmp_path / "sessions.sqlite"
    use(file)
    steps = (*sqlite_schema.MIGRATIONS, "CREATE TABLE later(x); INSERT INTO later VALUES(7)")
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", steps)
    monkeypatch.setattr(sqlite_schema, "VERSION", 2)
    store = SQLiteStore(file)
    store.open()
    assert len(list(store.rows())) == 2
    store.close()
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("SELECT x FROM later").fetchone() == (7,)
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite.bak")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    use(file)


def test_an_older_file_in_use_is_not_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a process of an older release uses the file, a newer one cannot join."""
    file = tmp_path / "sessions.sqlite"
    first = SQLiteStore(file)
    first.open()
    steps = (*sqlite_schema.MIGRATIONS, "CREATE TABLE later(x)")
    monkeypatch.setattr(sqlite_schema, "MIGRATIONS", steps)
    monkeypatch.setattr(sqlite_schema, "VERSION", 2)
    with pytest.raises(StoreError, match="older release"):
        SQLiteStore(file).open()
    first.close()


def test_the_backup_is_of_the_last_clean_start(tmp_path: Path) -> None:
    """At each start the backup becomes what the file then holds, while nobody else uses it."""
    file = tmp_path / "sessions.sqlite"
    use(file)  # its second start saw one session
    first = SQLiteStore(file)
    first.open()
    first.apply(Batch("more", [row(7)]))
    second = SQLiteStore(file)
    second.open()
    with closing(sqlite3.connect(tmp_path / "sessions.sqlite.bak")) as db:
        assert db.execute("SELECT count(*) FROM sessions").fetchone() == (2,)
    second.close()
    first.close()
    assert not list(tmp_path.glob("*.new*"))


def test_refuses_more_sessions_than_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with more sessions than the limit is refused with both numbers."""
    file = tmp_path / "sessions.sqlite"
    use(file)
    monkeypatch.setattr("scrapy_session_filter.stores.sqlite_start.MAX_SESSIONS", 1)
    with pytest.raises(StoreError, match="holds 2 sessions, at most 1"):
        SQLiteStore(file).open()


@pytest.mark.parametrize(
    ("kind", "warned"),
    [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False), ("tmpfs", False)],
)
def test_warns_of_network_file_systems(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, warned: bool
) -> None:
    """A file whose innermost mount is a network's is warned of."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/root / nfs rw 0 0\nserver:/x /data\\040disk {kind} rw 0 0\nproc /proc proc rw 0 0\n"
    )
    sqlite_file.warn_of_network(Path("/data disk/crawl/sessions.sqlite"), mounts)
    assert [kind in record.getMessage() for record in caplog.records] == [True] * warned


def test_a_failed_opening_leaves_no_lock(tmp_path: Path) -> None:
    """After an opening that failed, the next one does not see a living owner."""
    file = tmp_path / "sessions.sqlite"
    use(file)
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreVersionError):
        SQLiteStore(file).open()
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {sqlite_schema.VERSION}")
    store = SQLiteStore(file)
    store.open()
    assert len(store.claim(SITE, []).exits) == 2
    store.close()


def test_cannot_be_opened_twice(tmp_path: Path) -> None:
    """One store object is one owner, opened once."""
    store = SQLiteStore(tmp_path / "s.sqlite")
    store.open()
    with pytest.raises(StoreError, match="already open"):
        store.open()
    store.close()
