"""The demo shows what the README says of it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.world.crawls import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_demo(tmp_path: Path) -> None:
    """Without the plugin pages are lost, with it none, and the second run starts from the first."""
    project = tmp_path / "example_project"
    shutil.copytree(
        ROOT / "example_project", project, ignore=shutil.ignore_patterns(".scrapy", "__pycache__")
    )
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    result = subprocess.run(
        [sys.executable, "demo.py"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SHOP_GATEWAY_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [re.split(r"\s{2,}", line) for line in result.stdout.splitlines()[-3:]]
    plain, first, second = rows
    assert plain[0] == "without the plugin"
    assert int(plain[1].partition(" ")[0]) < 300
    assert (first[1], second[1]) == ("336 of 336", "336 of 336")
    assert int(first[3]) > 2 * int(second[3])  # blocked
    assert float(first[2]) > float(second[2])  # requests a page
    assert first[5] == "0"
    assert int(second[5]) > 10  # sessions remembered
