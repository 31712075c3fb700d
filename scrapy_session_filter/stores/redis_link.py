"""The connection to a Redis server: short time-outs, own back-off, errors of our own."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import random
import re
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisError
from redis.retry import Retry

from scrapy_session_filter.exceptions import ConfigurationError, StoreError
from scrapy_session_filter.stores import mask_uri
from scrapy_session_filter.stores.base import SETTING

logger = logging.getLogger(__name__)

TIMEOUT = 0.8  # seconds, to connect and for each reply
_OPEN_SECONDS = 2.5  # until an opening gives up; with the last attempt's time-out about 3
_PAUSES = (0.1, 2.0)  # seconds: shortest and longest back-off, which doubles with each failure
_PATH = re.compile(r"(/[0-9]{0,5})?\Z")
_OPTIONS = frozenset(
    ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
)


class Link:
    """Runs commands on one server; raises `StoreError` for whatever goes wrong there."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._name = mask_uri(uri)
        _check(uri)
        self._client: Any = None
        self._pid = 0
        self._failures = 0
        self._again_at = 0.0
        self._hashes: dict[str, str] = {}

    def open(self) -> None:
        """Connect; raises `ConfigurationError` if the server refuses the credentials."""
        try:
            self._client = redis.Redis.from_url(
                self._uri,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
                decode_responses=False,
            )
        except ValueError as error:
            raise _unusable(self._uri, f"a Redis address ({error})") from error
        self._pid = os.getpid()
        self._failures = 0
        self._ping()
        self._advise()

    def call(self, command: str, *values: str | float) -> Any:
        """Run a command; raises `StoreError`."""
        return self._guarded(lambda: self._client.execute_command(command, *values))

    def run(self, script: str, key: str, *values: str | bytes | float) -> list[Any]:
        """Run a Lua script on the keys of one hash tag; raises `StoreError`."""

        def evaluate() -> Any:
            sha = self._hashes.setdefault(script, _sha(script))
            try:
                return self._client.execute_command("EVALSHA", sha, 1, key, *values)
            except NoScriptError:  # a new or restarted server
                return self._client.execute_command("EVAL", script, 1, key, *values)

        said: list[Any] = self._guarded(evaluate)
        return said

    def knows(self, script: str) -> bool:
        """Return whether somebody has run a script since the server started; raises `StoreError`.

        Emptying a server does not make it forget that.
        """
        (known,) = self._guarded(
            lambda: self._client.execute_command("SCRIPT EXISTS", _sha(script))
        )
        return bool(known)

    @property
    def here(self) -> bool:
        """Whether it was opened by this process: a socket must not be used in a forked child."""
        return self._pid == os.getpid()

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client.connection_pool.disconnect()
        self._client = None

    def _guarded(self, ask: Any) -> Any:
        now = time.monotonic()
        if now < self._again_at:
            msg = f"{self._name} failed just now and is asked again in {self._again_at - now:.1f} s"
            raise StoreError(msg)
        try:
            said = ask()
        except (RedisError, OSError) as error:
            pause = min(_PAUSES[1], _PAUSES[0] * 2 ** min(self._failures, 10))
            self._again_at = time.monotonic() + pause * random.uniform(0.5, 1.0)
            self._failures += 1
            self._client.connection_pool.disconnect()  # a late reply must not answer another call
            msg = f"{self._name} cannot be used: {_reason(error)}"
            raise StoreError(msg) from error
        self._failures = 0
        return said

    def _ping(self) -> None:
        deadline = time.monotonic() + _OPEN_SECONDS
        while (error := self._missing()) is not None:
            if time.monotonic() + TIMEOUT > deadline:
                self.close()
                msg = f"{SETTING} = {self._name!r} cannot be reached: {_reason(error)}"
                raise StoreError(msg) from error
            time.sleep(_PAUSES[0] * random.uniform(1.0, 2.0))

    def _missing(self) -> Exception | None:
        try:
            self._client.ping()
        except AuthenticationError as error:
            raise _unusable(self._uri, f"credentials it accepts ({_reason(error)})") from error
        except (RedisError, OSError) as error:
            return error
        return None

    def _advise(self) -> None:
        """Warn of what would lose or show sessions later; servers may forbid to look."""
        if urlsplit(self._uri).scheme == "redis" and not _is_local(self._uri):
            logger.warning("%s is not encrypted: use rediss:// on other machines", self._name)
        policy = self._setting("maxmemory-policy")
        if policy.startswith("allkeys") and self._setting("maxmemory") not in ("", "0"):
            logger.warning(
                "%s has maxmemory-policy %s: when its memory is full it deletes sessions without a"
                " word; set noeviction",
                self._name,
                policy,
            )
        if self._setting("appendonly") == "no":
            saves = self._setting("save")
            logger.warning(
                "%s has appendonly off%s: sessions will be lost if the server restarts; set"
                " appendonly yes",
                self._name,
                f" and saves only now and then (save {saves})" if saves else " and saves nothing",
            )

    def _setting(self, name: str) -> str:
        try:
            found = self._client.execute_command("CONFIG GET", name)
        except RedisError:  # managed servers forbid it
            return ""
        pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2])  # noqa: B905 - Redis 5
        return next((_plain(value) for key, value in pairs if _plain(key) == name), "")


def _check(uri: str) -> None:
    try:
        parsed = urlsplit(uri)
        sound = parsed.hostname and parsed.port != 0 and _PATH.match(parsed.path)
    except ValueError:
        sound = None
    if not sound:
        raise _unusable(uri, "redis://[user:password@]host[:port][/db]")
    unknown = {name for name, _ in parse_qsl(parsed.query, keep_blank_values=True)} - _OPTIONS
    if unknown or parsed.fragment:
        raise _unusable(uri, f"no options but {', '.join(sorted(_OPTIONS))}")


def _unusable(uri: str, expected: str) -> ConfigurationError:
    return ConfigurationError(SETTING, mask_uri(uri), expected)


def _is_local(uri: str) -> bool:
    host = urlsplit(uri).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _plain(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
