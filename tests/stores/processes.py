"""Runs `tests.stores.worker` in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

if TYPE_CHECKING:
    import signal

ROOT = Path(__file__).parents[2]


class Worker:
    """A worker process; leaving the ``with`` block kills it."""

    def __init__(self, mode: str, uri: str, **options: float) -> None:
        arguments = [f"--{name}={value}" for name, value in options.items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.worker", mode, uri, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()

    def read(self) -> Any:
        """Return the next thing it says; None when it is dead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a method of its store."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.process.stdin.flush()
        return self.read()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Reader(threading.Thread):
    """Collects all that a worker says, so that its pipe never fills up."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.said: list[Any] = []
        self.start()

    def run(self) -> None:
        while (said := self.worker.read()) is not None:
            self.said.append(said)
