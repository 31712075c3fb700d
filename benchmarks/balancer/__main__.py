"""Crawl a site that bans by address, with this plugin and with others, side by side.

    python -m benchmarks.balancer                               every layout, every contender
    python -m benchmarks.balancer --layouts limit,scarce --contenders adaptive,classic
    python -m benchmarks.balancer --plots docs                  also draws the pages over time
    python -m benchmarks.balancer --layout '{"name": "mine", "pages": 500, "proxies": 40, ...}'

HAProxy, nginx and tinyproxy must be installed (``apt-get install haproxy nginx tinyproxy``). The
peers are installed from PyPI into environments of their own, in the directory that the variable
BENCHMARK_PEERS names, else in a temporary one. Everything runs on the loopback interface. A crawl
is stopped after three times the time that the limits allow, and 20 seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.balancer.contenders import CONTENDERS, Result, run
from benchmarks.balancer.layouts import LAYOUTS, Layout, names_of
from benchmarks.balancer.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATIENCE, EXTRA = 3.0, 20.0


def markdown(layout: Layout, results: list[Result]) -> Iterator[str]:
    """Return the table of one layout."""
    yield f"**{layout.name}**: {layout.told()}; the limits allow {layout.allowed:.0f} s."
    yield ""
    yield "| | pages | requests a page | seconds |"
    yield "|---|---:|---:|---:|"
    for result in results:
        yield (
            f"| {result.contender} | {result.fetched:,} | {result.per_page:.2f} | "
            f"{result.told_seconds()} |"
        )
    yield ""


def _layouts(options: argparse.Namespace) -> list[Layout]:
    if options.layout:
        return [Layout(**json.loads(text)) for text in options.layout]
    if not options.layouts:
        return list(LAYOUTS.values())
    return [LAYOUTS[name] for name in names_of(options.layouts, LAYOUTS, "--layouts")]


def compare(
    layouts: Iterable[Layout], names: Iterable[str], base: Path, *, seed: int = 1
) -> list[tuple[Layout, list[Result]]]:
    """Run the contenders of these names on each layout, one after another; logs are kept in ``base``."""
    crawls = []
    for layout in layouts:
        folder = base / layout.name
        folder.mkdir(parents=True, exist_ok=True)
        results = []
        for name in names:
            longest = PATIENCE * layout.allowed + EXTRA
            with Site(layout, seed) as site:
                result = run(CONTENDERS[name], layout, site, folder, longest)
            results.append(result)
            print(
                f"{layout.name} {name}: {result.fetched} pages, {result.per_page:.2f} requests "
                f"a page, {result.seconds:.0f} s of {layout.allowed:.0f}",
                file=sys.stderr,
                flush=True,
            )
        crawls.append((layout, results))
    return crawls


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balancer")
    parser.add_argument("--layouts", default="", help="comma-separated; all")
    parser.add_argument("--layout", action="append", default=[], help="one of your own, as JSON")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="comma-separated; all")
    parser.add_argument("--seed", type=int, default=1, help="decides which proxies are good")
    parser.add_argument("--plots", default="", help="directory for balancer.png")
    parser.add_argument("--logs", default="", help="directory that keeps the crawls' logs")
    options = parser.parse_args()
    names = names_of(options.contenders, CONTENDERS, "--contenders")
    layouts = _layouts(options)
    with TemporaryDirectory(prefix="balancer-runs-") as temporary:
        crawls = compare(layouts, names, Path(options.logs or temporary), seed=options.seed)
        for layout, results in crawls:
            print("\n".join(markdown(layout, results)), flush=True)
    if options.plots:
        from benchmarks.balancer.plot import draw  # noqa: PLC0415 - matplotlib is only needed here

        draw(crawls, Path(options.plots) / "balancer.png")


if __name__ == "__main__":
    main()
