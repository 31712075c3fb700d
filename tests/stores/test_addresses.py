"""`store_from_uri`: which store an address names, and which addresses are refused."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scrapy_session_filter.exceptions import ConfigurationError
from scrapy_session_filter.stores import STORES, mask_uri, store_from_uri
from scrapy_session_filter.stores.memory import MemoryStore
from scrapy_session_filter.stores.sqlite import SQLiteStore
from tests.stores.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_memory() -> None:
    """``memory:`` is a store of this process."""
    assert isinstance(store_from_uri("memory:", default_path="x"), MemoryStore)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:", "default.sqlite"),
        ("sqlite:other.sqlite", "other.sqlite"),
        ("sqlite:{tmp}/abs.sqlite", "abs.sqlite"),
        ("sqlite://{tmp}/three.sqlite", "three.sqlite"),
        ("sqlite:a b%20ü.sqlite", "a b%20ü.sqlite"),
    ],
)
def test_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, expected: str) -> None:
    """``sqlite:`` takes the default path or the one it names; nothing is touched before opening."""
    monkeypatch.chdir(tmp_path)
    store = store_from_uri(uri.format(tmp=tmp_path), default_path="default.sqlite")
    assert isinstance(store, SQLiteStore)
    assert not list(tmp_path.iterdir())
    store.open()
    store.close()
    assert (tmp_path / expected).is_file()


@pytest.mark.parametrize(
    "uri",
    [
        "",
        ":",
        "sqlite",
        "SQLite:x",
        "mysql://user:canary@host/db",
        "redisx://:canary@host",
        "/var/lib/sessions.sqlite",
        "memory:x",
        "sqlite://relative/path",
        "sqlite::memory:",
        "sqlite:a\0b",
        None,
        5,
    ],
)
def test_refuses(uri: str) -> None:
    """Any other address is refused by the setting's name, with what is allowed and no password."""
    with pytest.raises(ConfigurationError, match=r"^SESSION_FILTER_STORE = ") as info:
        store_from_uri(uri, default_path="x")
    assert "'memory:'" in info.value.expected
    assert "canary" not in str(info.value)


@pytest.mark.parametrize(
    ("uri", "masked"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user:canary@host/0", "redis://***@host/0"),
        ("redis://:can@ary@host", "redis://***@host"),
        ("redis://user:canary@host?password=canary&db=1", "redis://***@host?password=***&db=***"),
        ("weird:user:canary@host", "weird:***@host"),
        ("redis://user:can\nary@host", "redis://***@host"),
    ],
)
def test_masks(uri: str, masked: str) -> None:
    """User, password and query values are not shown."""
    assert mask_uri(uri) == masked


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the driver the message says which package to install."""
    monkeypatch.setitem(sys.modules, "redis", None)
    for module in ("redis", "redis_link"):
        monkeypatch.delitem(sys.modules, f"scrapy_session_filter.stores.{module}", raising=False)
    with pytest.raises(ConfigurationError, match=r"scrapy-session-filter\[redis\]") as info:
        store_from_uri("rediss://:canary@host", default_path="x")
    assert "canary" not in str(info.value)


def test_drivers_are_imported_when_used() -> None:
    """Importing the stores imports no driver."""
    code = (
        "import sys, scrapy_session_filter.stores as stores;"
        "stores.store_from_uri('memory:', default_path='x');"
        "assert not {'redis', 'sqlite3', 'scrapy', 'twisted'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_scheme_has_its_module() -> None:
    """The table of stores names each scheme that the messages name."""
    assert set(STORES) == {"memory", "sqlite", "redis", "rediss"}
