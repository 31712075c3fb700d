"""Proxies that are not ours, where installed: what they do was not arranged to suit the plugin."""

from __future__ import annotations

import shutil
import socket
import string
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from loopback import World

_ID_ALPHABET = string.ascii_lowercase + string.digits

# squid asks it "user password" line by line
_SQUID_LOGIN = """
while read -r user password; do
    if [ "$password" = secret ]; then echo OK; else echo ERR; fi
done
"""


@dataclass
class RealProxy:
    """A running proxy; ``url`` holds ``{session}`` if it is a gateway."""

    name: str
    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it; the polite way takes squid two seconds."""
        self.process.kill()
        self.process.wait(20)


def installed(name: str) -> str | None:
    """Return the path of a program, or None; squid lies where only root looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def start_squid(folder: Path, world: World) -> RealProxy:
    """Run squid as a gateway: sessions as user names, exits by the first character of the session.

    It resolves names itself: ``shop.example`` is this machine, at the port of `World.direct_url`.
    Started by root it becomes another user, so everybody must be able to use ``folder``.
    """
    port = _free_port()
    login = folder / "login.sh"
    login.write_text(_SQUID_LOGIN)
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 shop.example other.example\n")
    lines = [
        f"http_port 127.0.0.1:{port}",
        f"auth_param basic program /bin/sh {login}",
        "auth_param basic children 2 startup=1",
        "acl signed_in proxy_auth REQUIRED",
        "http_access allow signed_in",
        "http_access deny all",
        f"hosts_file {hosts}",
        f"cache_log {folder / 'squid.log'}",
        "access_log none",
        "cache deny all",
        "pid_filename none",
        "shutdown_lifetime 0 seconds",
        f"coredump_dir {folder}",
        "pinger_enable off",
    ]
    exits = world.exits[: len(_ID_ALPHABET)]
    for number, exit_ in enumerate(exits):
        initials = _ID_ALPHABET[number :: len(exits)]
        lines.append(f"acl exit{number} proxy_auth_regex ^user-session-[{initials}]")
        lines.append(f"tcp_outgoing_address {exit_} exit{number}")
    config = folder / "squid.conf"
    config.write_text("\n".join(lines) + "\n")
    url = f"http://user-session-{{session}}:secret@127.0.0.1:{port}"
    return _run("squid", ["-N", "-f", str(config)], url, port, folder)


def start_tinyproxy(folder: Path, world: World) -> RealProxy:
    """Run tinyproxy as one proxy with a password, at the world's first exit."""
    port = _free_port()
    lines = [
        "Listen 127.0.0.1",
        f"Port {port}",
        f"Bind {world.exits[0]}",
        "BasicAuth someone secret",
        "Timeout 60",
        "LogLevel Warning",
        f'LogFile "{folder / "tinyproxy.log"}"',
    ]
    config = folder / "tinyproxy.conf"
    config.write_text("\n".join(lines) + "\n")
    url = f"http://someone:secret@127.0.0.1:{port}"
    return _run("tinyproxy", ["-d", "-c", str(config)], url, port, folder)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _run(name: str, arguments: list[str], url: str, port: int, folder: Path) -> RealProxy:
    program = installed(name)
    assert program is not None, f"{name} is not installed"
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:  # noqa: PERF203 - not yet listening
            time.sleep(0.05)
        else:
            return RealProxy(name, url, process)
    process.kill()
    process.wait()
    logs = "\n".join(path.read_text(errors="replace") for path in folder.glob("*.log"))
    msg = f"{name} did not start: {logs[-3000:]}"
    raise AssertionError(msg)
