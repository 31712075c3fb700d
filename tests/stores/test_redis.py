"""The Redis store and its server: killed, frozen, flushed, full, refusing, and replies lost."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from scrapy_session_filter.exceptions import ConfigurationError, StoreError, StoreVersionError
from scrapy_session_filter.session import Session
from scrapy_session_filter.stores import redis_link, store_from_uri
from scrapy_session_filter.stores.base import MAX_ROW_BYTES, Batch, SessionStore
from scrapy_session_filter.stores.codec import encode
from scrapy_session_filter.stores.redis import RedisStore
from scrapy_session_filter.stores.redis_link import Link
from tests.stores.churn import check_counts, fill
from tests.stores.places import SITE, exits, row
from tests.stores.servers import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TAG = "{session-filter}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to be treated badly."""
    server = Server(tmp_path)
    yield server
    server.end()


@pytest.fixture
def store(server: Server) -> Iterator[SessionStore]:
    store = open_store(server)
    yield store
    store.close()


def open_store(server: Server, uri: str | None = None) -> SessionStore:
    store = store_from_uri(uri or server.uri, default_path="")
    store.open()
    return store


def soon(call: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Return what a call returns once it works again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except StoreError:  # noqa: PERF203 - it waits anyway
            assert time.monotonic() < deadline, f"not caught up in {seconds} s"
            time.sleep(0.02)


def took(call: Callable[[], Any]) -> float:
    start = time.monotonic()
    with suppress(StoreError, ConfigurationError):
        call()
    return time.monotonic() - start


class Relay:
    """Forwards a connection to a server; on demand it swallows replies and hangs up."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.uri = f"redis://127.0.0.1:{self.port}/0"
        self.lose_reply = False
        self.lose_every = 0  # so many pieces of replies, one is lost
        self._pieces = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with closing(client), closing(socket.create_connection(("127.0.0.1", self._target))) as to:
            reader = threading.Thread(target=self._back, args=(to, client), daemon=True)
            reader.start()
            with suppress(OSError):
                while data := client.recv(65536):
                    to.sendall(data)

    def _back(self, to: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := to.recv(65536):
                self._pieces += 1
                if self.lose_reply or (self.lose_every and self._pieces % self.lose_every == 0):
                    self.lose_reply = False
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)


@pytest.fixture
def relay(server: Server) -> Iterator[Relay]:
    relay = Relay(server.port)
    yield relay
    relay.close()


# -- the server is away


def test_a_frozen_server_costs_little(server: Server, store: SessionStore) -> None:
    """Each call ends within a second, the next ones at once; all is caught up after the thaw."""
    store.apply(Batch("a", [row(1)]))
    batch = Batch("b", [row(1, uses=5), row(2)])
    server.freeze()
    try:
        assert 0.1 < took(lambda: store.apply(batch)) < 1.0
        assert took(lambda: store.apply(batch)) < 0.05
        assert took(store.renew) < 0.05
    finally:
        server.thaw()
    soon(lambda: store.apply(batch))
    assert {r["id"]: r for r in store.rows()} == {r["id"]: r for r in batch.sessions}
    assert store.refused == 0


def test_back_off_grows_to_two_seconds(server: Server, store: SessionStore) -> None:
    """Long outages are asked after at most every two seconds, and not more often than that."""
    server.kill()
    tried = 0
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            store.sites()
        except StoreError as error:
            tried += "asked again" not in str(error)
        time.sleep(0.005)
    assert 4 <= tried <= 9
    server.start()
    assert took(lambda: soon(store.sites)) < 2.5


def test_a_killed_server_comes_back(server: Server, store: SessionStore) -> None:
    """After kill -9 and a restart from its log everything is there, claims included."""
    store.apply(Batch("a", [row(1)], sites={SITE: {"x": 1}}))
    time.sleep(0.05)  # it writes its log when it next waits for commands
    server.kill()
    with pytest.raises(StoreError):
        store.apply(Batch("b", [row(1, uses=5)]))
    server.start()
    soon(lambda: store.apply(Batch("b", [row(1, uses=5)])))
    assert list(store.rows()) == [row(1, uses=5)]
    assert store.renew() == {}
    assert store.generation == 0
    other = open_store(server)
    assert other.claim(SITE, []).exits == set()
    other.close()


def test_a_wiped_server(
    server: Server, store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    """After FLUSHALL one ERROR per owner; what it holds can be saved and is claimed again."""
    other = open_store(server)
    store.apply(Batch("a", [row(1)]))
    other.apply(Batch("a", [row(2)]))
    server.client.flushall()
    store.apply(Batch("b", [row(1, uses=5)]))
    other.renew()
    other.apply(Batch("b", [row(2, uses=6)]))
    assert store.generation == other.generation == 1
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(messages) == 2
    assert all("wiped while in use" in message for message in messages)
    assert {r["uses"] for r in store.rows()} == {5, 6}
    assert store.claim(SITE, []).exits == other.claim(SITE, []).exits == set()
    assert store.refused == other.refused == 0
    other.close()


def test_forgotten_scripts_are_sent_again(server: Server, store: SessionStore) -> None:
    """SCRIPT FLUSH is not noticed."""
    store.apply(Batch("a", [row(1)]))
    server.client.script_flush()
    store.apply(Batch("b", [row(2)]))
    assert len(list(store.rows())) == 2


def test_a_full_server(server: Server, store: SessionStore) -> None:
    """Out of memory is an error of ours, the old state stands, and later the batch is saved."""
    store.apply(Batch("a", [row(1)]))
    server.client.config_set("maxmemory", "1")
    with pytest.raises(StoreError, match="maxmemory"):
        store.apply(Batch("b", [row(1, uses=5)]))
    assert list(soon(lambda: list(store.rows()))) == [row(1)]
    server.client.config_set("maxmemory", "0")
    soon(lambda: store.apply(Batch("b", [row(1, uses=5)])))
    assert list(store.rows()) == [row(1, uses=5)]


def test_a_read_only_server(server: Server, store: SessionStore) -> None:
    """A master that became a replica refuses to save; once it is promoted it saves."""
    server.client.replicaof("127.0.0.1", str(free_port()))
    with pytest.raises(StoreError, match=r"(?i)read ?only"):
        store.apply(Batch("a", [row(1)]))
    server.client.replicaof("NO", "ONE")
    soon(lambda: store.apply(Batch("a", [row(1)])))
    assert list(store.rows()) == [row(1)]


def test_who_starts_after_a_wipe_waits_for_those_before(
    server: Server, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exits of an owner who has not noticed yet are not granted; it takes them back at once."""
    monkeypatch.setattr("scrapy_session_filter.stores.redis._RETURN_SECONDS", 60)
    mine = {"p", "q", "r", row(1)["exit"]}
    assert store.claim(SITE, ["p", "q", "r"]).exits == {"p", "q", "r"}
    store.apply(Batch("a", [row(1)]))
    server.client.flushall()
    new = open_store(server)
    claim = new.claim(SITE, ["p", "q", "r", "s"])
    assert not claim.exits
    assert claim.short > 0
    assert store.renew() == {}
    assert store.generation == 1
    assert store.claim(SITE, ["s"]).exits == set()
    taken: set[str] = set()
    while some := store.claim(SITE, sorted(mine)).exits:
        taken |= some
    assert taken == mine
    assert new.claim(SITE, ["p", "q", "r", "s"]).exits == set()
    server.client.hset(f"{TAG}:meta", "calm", 0)  # the minute is over
    assert new.claim(SITE, ["p", "q", "r", "s"]).exits == {"s"}
    assert store.renew() == new.renew() == {}
    new.close()


def test_a_new_server_makes_nobody_wait(server: Server) -> None:
    """The first crawl on an empty server that nobody used before has all at once."""
    store = open_store(server)
    assert store.claim(SITE, ["p", "q"]).exits == {"p", "q"}
    store.close()


# -- replies are lost


def test_a_lost_reply_applies_once(server: Server, relay: Relay) -> None:
    """A batch whose reply was lost is not applied again, and its exits are this owner's."""
    store = open_store(server, relay.uri)
    for n in range(5):
        batch = Batch(f"b{n}", [row(n), row(n + 100, exit_="p")])
        relay.lose_reply = True
        with pytest.raises(StoreError):
            store.apply(batch)
        soon(lambda batch=batch: store.apply(batch))  # type: ignore[misc]
    assert len(list(store.rows())) == 10
    assert server.client.hget(f"{TAG}:meta", "sessions") == b"10"
    assert server.client.hget(f"{TAG}:meta", "token") == b"5"
    assert store.claim(SITE, ["p"]).exits == set()
    assert store.renew() == {}
    store.apply(Batch("c", [row(n, uses=9) for n in range(5)], removed=[(SITE, row(100)["id"])]))
    assert store.refused == 0
    store.close()


def test_a_claim_whose_reply_was_lost_is_made_good(server: Server, relay: Relay) -> None:
    """Exits granted in a lost reply are granted by the next one; held ones are not."""
    store = open_store(server, relay.uri)
    assert store.claim(SITE, ["held"]).exits == {"held"}
    store.apply(Batch("a", [row(1)]))
    relay.lose_reply = True
    with pytest.raises(StoreError):
        store.claim(SITE, ["p", "q"])
    assert soon(lambda: store.claim(SITE, ["p", "q"])).exits == {"p", "q"}
    assert store.claim(SITE, ["p", "q"]).exits == set()
    assert store.renew() == {}
    store.close()


def test_a_big_load_goes_on_after_lost_replies(server: Server, relay: Relay) -> None:
    """Thousands of sessions come whole and once, and are held, though reply after reply is lost."""
    fill(server.uri, 5200)
    store = open_store(server, relay.uri)
    relay.lose_every = 40
    claim = soon(lambda: store.claim(SITE, ["p"]), 60.0)
    relay.lose_every = 0
    assert claim.exits == {"p", *exits(*range(5200))}
    assert {found["exit"] for found in claim.rows} == exits(*range(5200))
    assert len(claim.rows) == 5200
    soon(store.renew)
    assert store.held(SITE) == claim.exits
    assert soon(lambda: store.claim(SITE, ["p"])).exits == set()
    before = store.refused
    soon(lambda: store.apply(Batch("all", [{**found, "uses": 3} for found in claim.rows])))
    assert store.refused == before
    store.close()


def test_who_is_alone_takes_over_what_the_dead_left(server: Server, store: SessionStore) -> None:
    """Sessions at once; of the proxies without one those that are offered, the others stay free."""
    claimed = {"p", "q", "r"}
    store.apply(Batch("a", [row(1), row(2), row(3, exit_="r")]))
    assert store.claim(SITE, sorted(claimed)).exits == {"p", "q"}
    store.close()
    one, two = open_store(server), RedisStore(server.uri)
    claim = one.claim(SITE, ["p"])
    assert claim.exits == {*exits(1, 2), "r", "p"}
    assert sorted(found["id"] for found in claim.rows) == [row(n)["id"] for n in (1, 2, 3)]
    two.open()
    assert two.claim(SITE, ["p", "q", "r"]).exits == {"q"}
    assert one.renew() == two.renew() == {}
    one.close()
    two.close()


# -- opening


def test_a_server_that_is_not_there(server: Server) -> None:
    """No server, or one that never answers, is said within about three seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (free_port(), silent.getsockname()[1]):
            store = RedisStore(f"redis://user:canary@127.0.0.1:{port}")
            start = time.monotonic()
            with pytest.raises(StoreError, match=r"SESSION_FILTER_STORE = .* cannot be") as info:
                store.open()
            assert time.monotonic() - start < 3.3
            assert "canary" not in str(info.value)


def test_a_wrong_password(tmp_path: Path) -> None:
    """Wrong or missing credentials are refused at once, by the setting's name, and not shown."""
    server = Server(tmp_path, "--requirepass", "sesame")
    try:
        for credentials in ("", ":canary@", "user:canary@"):
            uri = f"redis://{credentials}127.0.0.1:{server.port}"
            start = time.monotonic()
            with pytest.raises(ConfigurationError, match="SESSION_FILTER_STORE") as info:
                RedisStore(uri).open()
            assert time.monotonic() - start < 1
            assert "canary" not in str(info.value)
        store = open_store(server, f"redis://:sesame@127.0.0.1:{server.port}")
        store.apply(Batch("a", [row(1)]))
        store.close()
    finally:
        server.end()


def test_a_newer_release(server: Server) -> None:
    """What a newer release wrote is left untouched."""
    server.client.hset(f"{TAG}:meta", mapping={"version": 2, "epoch": "e"})
    before = server.client.dump(f"{TAG}:meta")
    with pytest.raises(StoreVersionError, match="2"):
        open_store(server)
    assert server.client.dump(f"{TAG}:meta") == before


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"appendonly": "no"}, "sessions will be lost if the server restarts"),
        ({"appendonly": "no", "save": "60 1"}, "sessions will be lost if the server restarts"),
        ({"maxmemory-policy": "allkeys-lru", "maxmemory": "1gb"}, "noeviction"),
        ({"maxmemory-policy": "allkeys-lru"}, None),
        ({"maxmemory": "1gb"}, None),
    ],
)
def test_advises(
    server: Server,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, str],
    expected: str | None,
) -> None:
    """A server that would lose sessions is warned of at start, and only then."""
    for name, value in settings.items():
        server.client.config_set(name, value)
    open_store(server).close()
    assert [expected in r.getMessage() for r in caplog.records if expected] == [True] * bool(
        expected
    )
    assert expected or not caplog.records


def test_a_server_that_hides_its_settings(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A managed server that forbids CONFIG is used without advice."""
    server.client.acl_setuser(
        "crawl", enabled=True, passwords=["+pw"], keys="*", commands=["+@all", "-config"]
    )
    open_store(server, f"redis://crawl:pw@127.0.0.1:{server.port}").close()
    assert not caplog.records


@pytest.mark.parametrize(
    ("uri", "warned"),
    [
        ("redis://redis.example:6379", True),
        ("redis://10.0.0.1", True),
        ("rediss://redis.example:6379", False),
        ("redis://localhost", False),
        ("redis://127.0.0.2:1", False),
        ("redis://[::1]:6379", False),
    ],
)
def test_warns_of_open_lines(
    uri: str, warned: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an unencrypted connection to another machine is warned of."""
    link = Link(uri)
    monkeypatch.setattr(link, "_setting", lambda name: "")
    link._advise()
    assert ["not encrypted" in r.getMessage() for r in caplog.records] == [True] * warned


@pytest.mark.parametrize(
    "uri",
    [
        "redis:",
        "redis://",
        "redis:///0",
        "redis://host:port",
        "redis://host:0",
        "redis://host:99999",
        "redis://host/zero",
        "redis://user:canary@host/0?socket_timeout=60",
        "redis://user:canary@host/0#x",
        "rediss://user:canary@[host",
    ],
)
def test_refuses_addresses(uri: str) -> None:
    """An address that cannot be meant is refused by the setting's name, without its password."""
    with pytest.raises(ConfigurationError, match="SESSION_FILTER_STORE") as info:
        store_from_uri(uri, default_path="")
    assert "canary" not in str(info.value)


def test_pins_what_it_relies_on(store: SessionStore) -> None:
    """The client's own time-outs are short and its retries off, whatever its defaults become."""
    assert isinstance(store, RedisStore)
    options = store._link._client.connection_pool.connection_kwargs
    assert options["socket_timeout"] == options["socket_connect_timeout"] == redis_link.TIMEOUT < 1
    assert options["retry"].get_retries() == 0
    assert options["health_check_interval"] == 0


# -- what others put there


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"junk",
        b"[]",
        b"\xff\xfe",
        b'{"id": "s00000000009"}',
        b'{"id":"s00000000009","site":"other.example","exit":"x"}',
        b'{"id":"s00000000009","id":"x","site":"shop.example","exit":"x"}',
        b'{"id":"s00000000009","site":"shop.example","exit":"x","uses":NaN}',
        b'{"id":"s00000000009","site":"shop.example","exit":"x","uses":1e999}',
        b'{"x":' * 100_000,
        b'{"uses":' + b"9" * 5000 + b"}",
        b"x" * 100_000,
    ],
    ids=range(12),
)
def test_junk_is_left_out(server: Server, caplog: pytest.LogCaptureFixture, junk: bytes) -> None:
    """A session that is not one is left out with a warning; the others are used."""
    store = open_store(server)
    store.apply(Batch("a", [row(1)]))
    server.client.hset(f"{TAG}:s:{SITE}", "s00000000009", junk)
    server.client.hset(f"{TAG}:x:{SITE}", "s00000000009", "s00000000009")
    server.client.hset(f"{TAG}:t:{SITE}", "junk", junk or b"{")
    server.client.hset(f"{TAG}:endpoints", "junk", junk)
    store.close()
    store = open_store(server)
    assert store.claim(SITE, []).rows == list(store.rows()) == [row(1)]
    assert "left out" in caplog.text
    store.site_state(SITE)
    store.endpoint_states()
    store.close()


def test_junk_in_cookies(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Cookies that are none cost a session its cookies, and only when it is used."""
    store = open_store(server)
    sound = encode(row(1), MAX_ROW_BYTES)
    store.apply(Batch("a", [row(1)]))
    server.client.hset(f"{TAG}:s:{SITE}", "s00000000001", sound.replace(b'"sid"', b"NaN"))
    assert not list(store.rows())
    assert "left out" in caplog.text
    caplog.clear()
    store.close()
    store = open_store(server)
    (found,) = store.claim(SITE, []).rows
    session = Session.from_row(found, None, now=0.0, wall_offset=time.time())
    assert not caplog.records
    assert session.cookies is None
    assert session.cookies is None
    assert caplog.text.count("s00000000001") == 1
    store.close()


def test_keys_of_another_kind(server: Server, store: SessionStore) -> None:
    """A key that somebody else uses is an error of ours."""
    server.client.set(f"{TAG}:s:{SITE}", "mine")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.apply(Batch("a", [row(1)]))


# -- sizes, forks


def test_many_sessions(store: SessionStore, server: Server) -> None:
    """Thousands of sessions go and come in bounded steps."""
    rows = [row(n) for n in range(6200)]
    store.apply(Batch("a", rows))
    store.apply(Batch("a", rows))
    assert server.client.hget(f"{TAG}:meta", "sessions") == b"6200"
    store.close()
    other = open_store(server)
    claim = other.claim(SITE, [f"p{n}" for n in range(6000)])
    assert len(claim.exits) == 12_200
    assert len(claim.rows) == 6200
    assert other.claim(SITE, []).exits == set()
    other.close()


def test_wide_states(store: SessionStore) -> None:
    """A site's state may have thousands of keys."""
    state = {f"exit:{n}": {"until": n + 0.5, "list": [], "dict": {}} for n in range(3000)}
    store.claim(SITE, [f"p{n}" for n in range(500)])
    store.apply(Batch("a", sites={SITE: state}))
    assert store.site_state(SITE) == state
    store.apply(Batch("b", sites={SITE: dict.fromkeys(state)}))
    assert store.site_state(SITE) is None


def test_a_forked_child_cannot_use_it(store: SessionStore) -> None:
    """In a child every call is an error that says so; closing there touches nothing."""
    store.claim(SITE, ["p"])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.sites()
        except StoreError as error:
            code = 0 if "not open in this process" in str(error) else 2
        finally:
            store.close()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert store.claim(SITE, ["p"]).exits == set()
    assert store.renew() == {}


def test_is_told_apart_from_other_keys(server: Server, store: SessionStore) -> None:
    """All keys of the store have one hash tag, so that a cluster keeps them together."""
    store.apply(Batch("a", [row(1)], [(SITE, "x")], {SITE: {"x": 1}}, {"p": {"y": 1}}))
    store.claim(SITE, ["q"])
    keys = server.client.keys("*")
    assert len(keys) >= 9
    assert all(key.startswith(f"{TAG}:".encode()) for key in keys)
    assert exits(1) <= {name.decode() for name in server.client.hkeys(f"{TAG}:c:{SITE}")}


# -- many processes


@pytest.mark.parametrize("processes", [2, 4])
def test_counters_are_exact(server: Server, processes: int) -> None:
    """Through kills and freezes no count is lost or doubled, and all comes back in time."""
    check_counts(server.uri, processes, seconds=4.0)


@pytest.mark.soak
def test_counters_are_exact_for_a_minute(server: Server) -> None:
    """Through a minute of kills and freezes of eight processes no count is lost or doubled."""
    check_counts(server.uri, 8, seconds=60.0)
