"""Everything side by side, into a page of its own: ``python -m benchmarks.report [--into docs]``.

Writes ``benchmarks.md`` with the peer table of the simulator and the real crawls against a load
balancer, and the pictures that it shows: ``ratio.png`` (ratio to the oracle per scenario and policy),
``pages.png`` (pages over time, simulated) and ``balancer.png`` (the same, real). Takes an hour;
``--seeds 1 --layouts limit`` a quarter of it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.balancer.__main__ import compare, markdown
from benchmarks.balancer.contenders import CONTENDERS, RETRIES
from benchmarks.balancer.layouts import LAYOUTS
from benchmarks.balancer.plot import draw as draw_crawls
from benchmarks.plots import draw as draw_table
from benchmarks.run_arena import chosen, measure
from benchmarks.worlds import scenarios

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """# How the policies compare

Made by `make bench`: all contenders in one run, on {where}.
"""

_SIMULATED = """
## In the simulator

Ratio of goodput to that of a clairvoyant oracle, {seeds} seeds (`benchmarks/arena.py` says what that
is); `product` is this plugin with its `adaptive` policy, `oracle_nl` knows all but the latencies.
Bold: the best. The simulator was written by the same hands as the policy.

![Ratio to the oracle](ratio.png)

"""

_REAL = """
## In real crawls

A site behind HAProxy, which refuses by address what is over its limit, and tinyproxy with an exit for
each proxy, all on the loopback interface (`benchmarks/balancer`). `adaptive` and `classic` are this
plugin; `rotating-proxies` is scrapy-rotating-proxies 0.6.2, `crawlee` Crawlee for Python 1.11, `random`
plain Scrapy with a random proxy per request. A page may cost {retries} retries for everybody. Requests
are HAProxy's own count; seconds depend on the machine.

![Pages over time](balancer.png)

"""


def simulated(seeds: int, folder: Path) -> Iterator[str]:
    """Run every policy in the named scenarios; draws its two pictures."""
    policies = chosen("all", [])
    table = measure(scenarios(), policies, range(seeds))
    draw_table(table, policies, folder)
    yield _SIMULATED.format(seeds=seeds)
    yield "\n".join(table.markdown())
    yield "\n\n![Pages over time, simulated](pages.png)\n"


def real(layouts: list[str], folder: Path) -> Iterator[str]:
    """Run every contender on the layouts; draws its picture."""
    with TemporaryDirectory(prefix="balancer-runs-") as temporary:
        crawls = compare([LAYOUTS[name] for name in layouts], list(CONTENDERS), Path(temporary))
    draw_crawls(crawls, folder / "balancer.png")
    yield _REAL.format(retries=RETRIES)
    for layout, results in crawls:
        yield "\n".join(markdown(layout, results)) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report")
    parser.add_argument("--into", default="docs", help="the directory to write")
    parser.add_argument("--seeds", type=int, default=8, help="of the simulator")
    parser.add_argument("--layouts", default=",".join(LAYOUTS), help="comma-separated; all")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.layouts.split(",")) - LAYOUTS.keys())
    if unknown:
        sys.exit(f"--layouts: no {', '.join(unknown)}; there are: {', '.join(LAYOUTS)}")
    folder = Path(options.into)
    folder.mkdir(parents=True, exist_ok=True)
    where = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    text = _HEAD.format(where=where)
    text += "".join(real(options.layouts.split(","), folder))
    text += "".join(simulated(options.seeds, folder))
    (folder / "benchmarks.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
