"""The whole of the bad input against a target that records: nothing bare, nothing given away."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.world.crawls import environment

if TYPE_CHECKING:
    from pathlib import Path

    from loopback import World


def test_no_bad_setting_lets_anything_out(world: World, tmp_path: Path) -> None:
    """Each bad setting stops its crawl with our error; the page, in reach, is never asked for."""
    command = [sys.executable, "-m", "tests.faults.bad_crawls"]
    done = subprocess.run(
        [*command, world.direct_url("/page/1"), world.gateway],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) > 300
    let_through = [o for o in outcomes if not str(o[1]).startswith("ConfigurationError: ")]
    assert not let_through
    assert not world.site.visits
    assert not world.proxy.passages
    assert "topsecret" not in (tmp_path / "crawls.log").read_text(encoding="utf-8")
    assert not [error for _, error in outcomes if "topsecret" in error]
