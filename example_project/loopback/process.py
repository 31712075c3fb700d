"""The world in a process of its own, so that it does not share the crawl's interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from loopback.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RemoteWorld:
    """A handle on a world in another process, which ends with `close` or with this process."""

    def __init__(self, **options: Any) -> None:
        """Start ``python -m loopback`` with `World`'s arguments; RuntimeError if that fails."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loopback", json.dumps(options), "--obey"],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        addresses = self._read()
        self.gateway: str = addresses["gateway"]
        self.site: str = addresses["site"]
        self.tls_site: str | None = addresses["tls_site"]
        self.exits: list[str] = addresses["exits"]

    def call(self, name: str, **arguments: Any) -> Any:
        """Have one of `COMMANDS` done; RuntimeError with its message if that fails there."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"call": name, **arguments}) + "\n")
        stdin.flush()
        reply = self._read()
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return reply["result"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            msg = f"the loopback world ended with exit code {self._process.returncode}"
            raise RuntimeError(msg)
        return dict(json.loads(line))


@contextmanager
def launch(**options: Any) -> Iterator[RemoteWorld]:
    """Run a world in another process for the time of a ``with`` block."""
    world = RemoteWorld(**options)
    try:
        yield world
    finally:
        world.close()


COMMANDS: dict[str, Callable[..., Any]] = {
    "stats": World.stats,
    "visits": lambda world: [visit.as_dict() for visit in world.site.visits],
    "passages": lambda world: [passage.as_dict() for passage in world.proxy.passages],
    "forget": lambda world: world.site.forget_visits(),
    "reset": lambda world: world.site.reset(),
    "pick_exits": World.pick_exits,
    "proxies": World.proxies,
    "ban": World.ban,
    "on": lambda world, **rule: world.site.on(**rule),
    "limit": lambda world, **limit: world.site.limit(**limit),
    "spoil": lambda world, **fault: world.proxy.spoil(**fault),
    "heal": lambda world, **which: world.proxy.heal(**which),
    "kill": World.kill,
    "revive": World.revive,
    "kill_gateway": World.kill_gateway,
    "revive_gateway": World.revive_gateway,
}
"""What a world in another process can be told to do, by name; arguments are given by keyword."""


def obey(world: World, commands: IO[str], replies: IO[str]) -> None:
    """Do what each line of JSON says, and answer with a line, until the input ends."""
    for line in commands:
        command = json.loads(line)
        reply: dict[str, Any]
        try:
            reply = {"result": COMMANDS[command.pop("call")](world, **command)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side has to know
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def addresses(world: World) -> dict[str, Any]:
    """Return where a world can be reached."""
    return {
        "gateway": world.gateway,
        "site": world.direct_url(""),
        "tls_site": world.direct_url("", https=True) if world.site.tls_port else None,
        "exits": world.exits,
    }
