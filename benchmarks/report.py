"""Everything side by side, into a page of its own: ``python -m benchmarks.report [--into docs]``.

Writes ``benchmarks.md``, part by part, and the pictures that it shows:

    scenarios   every policy in the simulator's 18 scenarios: ratio.png, and pages.png (over time)
    random      the same in random worlds
    crawls      every contender in real crawls of a load balancer's site: balancer.png
    layouts     the plugin alone on every layout of that site

The first two take some minutes each, the last two up to an hour and a quarter of one. ``--parts
random,crawls`` makes only these anew and leaves the others on the page as they are; each says with
which command, at which commit and on which machine it was made.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import subprocess
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
from benchmarks.worlds import chosen_worlds, scenarios

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.balancer.contenders import Result
    from benchmarks.balancer.layouts import Layout

_HEAD = """# How the policies compare

Made by `make bench`. Each part says with which command, at which commit and on which machine. What is
weighed against each other ran in one go.
"""

_SCENARIOS = """## In the simulator: 18 scenarios

Ratio of goodput to that of a clairvoyant oracle, mean of {seeds} seeds. `benchmarks/arena.py` says
what that is and what the columns of the second table mean, `benchmarks/worlds.py` what the scenarios
are, `benchmarks/peers.py` where each peer's rule is from. `product` is this plugin with its `adaptive`
policy; `oracle_nl` knows all but the latencies and is no contender. Bold: the best. The simulator was
written by the same hands as the policy.

![Ratio to the oracle](ratio.png)

"""

_RANDOM = """## In the simulator: random worlds

Worlds {worlds} of a wide family (`random_world` in `benchmarks/worlds.py`), {seeds} each. Those in
which not even the oracle gets anywhere are left out: {feasible} remain. Columns as in the second table
above; `worst` is the ratio in the worst world.

"""

_CRAWLS = """## In real crawls: all contenders

A site behind HAProxy, which refuses by address what is over its limit, and tinyproxy with an exit for
each proxy, all on the loopback interface (`benchmarks/balancer`). `adaptive` and `classic` are policies
of this plugin, `rotating-proxies` is scrapy-rotating-proxies 0.6.2, `crawlee` Crawlee for Python 1.11,
`random` plain Scrapy with a random proxy per request. A page may cost {retries} retries for everybody;
who gives pages up ends early. A crawl is stopped after three times the seconds that the limits allow,
and 20. Requests are HAProxy's own count; seconds depend on the machine. One run each.
Where the machine is slower than the limits (`limit` allows 160 pages a second), they hardly bind who
spreads the load.

![Pages over time](balancer.png)

"""

_LAYOUTS = """## In real crawls: `adaptive` on every layout

The same site with other limits. One run each.

"""


def _of_scenarios(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    policies = chosen("all", [])
    table = measure(scenarios(), policies, range(options.seeds))
    draw_table(table, policies, folder)
    yield _SCENARIOS.format(seeds=options.seeds)
    yield "\n".join(table.markdown())
    yield "\n\n![Pages over time, simulated](pages.png)\n"


def _of_random_worlds(options: argparse.Namespace, _: Path) -> Iterator[str]:
    table = measure(
        chosen_worlds("", options.worlds), chosen("all", []), range(options.random_seeds)
    )
    first, _, end = options.worlds.partition(":")
    seeds = f"{options.random_seeds} seed{'s' * (options.random_seeds > 1)}"
    feasible = len(table.results)
    yield _RANDOM.format(worlds=f"{first} to {int(end) - 1}", seeds=seeds, feasible=feasible)
    yield "\n".join(table.summary()) + "\n"
    told = (
        f"{name} ({table.mean(name, 'product', 'ratio'):.2f}, {table.best_peer(name):.2f})"
        for name in table.behind("product")
    )
    yield f"\nWhere `product` is that far behind (its ratio, the best peer's): {', '.join(told)}.\n"


def _of_crawls(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    crawls = _crawl(options.layouts, list(CONTENDERS))
    draw_crawls(crawls, folder / "balancer.png")
    yield _CRAWLS.format(retries=RETRIES)
    for layout, results in crawls:
        yield "\n".join(markdown(layout, results)) + "\n"


def _of_layouts(_: argparse.Namespace, __: Path) -> Iterator[str]:
    yield _LAYOUTS
    yield "| layout | pages | requests a page | seconds | the limits allow |\n"
    yield "|---|---:|---:|---:|---:|\n"
    crawls = _crawl(",".join(LAYOUTS), ["adaptive"])
    for layout, (result,) in crawls:
        yield (
            f"| {layout.name} | {result.fetched:,} of {layout.pages:,} | {result.per_page:.2f} | "
            f"{result.told_seconds()} | {layout.allowed:.0f} |\n"
        )
    yield "\n"
    for layout, _result in crawls:
        yield f"- **{layout.name}**: {layout.told()}.\n"


def _crawl(layouts: str, contenders: list[str]) -> list[tuple[Layout, list[Result]]]:
    with TemporaryDirectory(prefix="balancer-runs-") as temporary:
        return compare([LAYOUTS[name] for name in layouts.split(",")], contenders, Path(temporary))


PARTS: dict[str, tuple[Callable[[argparse.Namespace, Path], Iterator[str]], tuple[str, ...]]] = {
    "scenarios": (_of_scenarios, ("seeds",)),
    "random": (_of_random_worlds, ("worlds", "random_seeds")),
    "crawls": (_of_crawls, ("layouts",)),
    "layouts": (_of_layouts, ()),
}
"""What writes each part, and the options that it heeds; in the order of the page."""


def _commit() -> str:
    """Return the commit of what is measured, and whether it was changed since."""
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    commit = git("rev-parse", "--short", "HEAD").stdout.strip()
    if not commit:
        return "unknown"  # an unpacked archive
    changed = git("diff", "--quiet", "HEAD", "--", "scrapy_session_filter", "benchmarks").returncode
    return f"{commit}, changed" if changed else commit


def _told(part: str, options: argparse.Namespace, commit: str) -> str:
    """Say how a part was made: the command, the commit, the machine."""
    command = ["python", "-m", "benchmarks.report", "--parts", part]
    for name in PARTS[part][1]:
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    return (
        f"`{shlex.join(command)}` at commit {commit};\nPython "
        f"{platform.python_version()}, {os.cpu_count()} cores, of which {os.getloadavg()[2]:.0f} were "
        "wanted on average (other work included) in the 15 minutes before its end.\n\n"
    )


def _marks(part: str) -> tuple[str, str]:
    return f"<!-- {part} -->\n", f"<!-- end of {part} -->\n"


def _sections(page: str) -> dict[str, str]:
    """Return what an earlier page says of each part."""
    found = {}
    for part in PARTS:
        first, last = map(re.escape, _marks(part))
        match = re.search(f"{first}.*{last}", page, re.DOTALL)
        if match:
            found[part] = match.group()
    return found


def _make(part: str, options: argparse.Namespace, folder: Path) -> str:
    commit = _commit()  # before it takes its time
    first, last = _marks(part)
    title, _, rest = "".join(PARTS[part][0](options, folder)).partition("\n\n")
    return f"{first}{title}\n\n{_told(part, options, commit)}{rest}{last}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report")
    parser.add_argument("--into", default="docs", help="the directory to write")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma-separated; all")
    parser.add_argument("--seeds", type=int, default=8, help="of the scenarios")
    parser.add_argument("--worlds", default="0:60", help="FROM:TO, the random ones")
    parser.add_argument("--random-seeds", type=int, default=1, help="of each of them")
    parser.add_argument("--layouts", default=",".join(LAYOUTS), help="comma-separated; all")
    options = parser.parse_args(argv)
    for name, known in (("parts", PARTS), ("layouts", LAYOUTS)):
        unknown = sorted(set(getattr(options, name).split(",")) - set(known))
        if unknown:
            sys.exit(f"--{name}: no {', '.join(unknown)}; there are: {', '.join(known)}")
    folder = Path(options.into)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "benchmarks.md"
    for part in options.parts.split(","):
        made = _make(part, options, folder)
        sections = _sections(page.read_text(encoding="utf-8")) if page.exists() else {}
        sections[part] = made
        text = "\n".join([_HEAD, *(sections[name] for name in PARTS if name in sections)])
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
