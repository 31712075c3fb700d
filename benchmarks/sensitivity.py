"""How much each constant of the adaptive policy matters: ``python -m benchmarks.sensitivity``.

Each is halved and doubled, one at a time, in the same worlds with the same seeds, and the mean
ratio to the oracle is compared with that of the constants as shipped. Prints Markdown.

    python -m benchmarks.sensitivity --scenarios S1b,S2b,S6,S11 --seeds 2
    python -m benchmarks.sensitivity --random 0:20 --only PER_SLOT,WORTH
"""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.arena import simulate
from benchmarks.arena_oracle import Oracle
from benchmarks.contender import Product
from benchmarks.worlds import Cfg, chosen_worlds

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "scrapy_session_filter.policies.adaptive"
CONSTANTS = {
    "drought": ("PER_SLOT", "PER_CHANCE", "SPAN", "REST"),
    "ladder": ("FIRST_REST", "EARLIEST", "PRIOR"),
    "learning": ("LONGEST_REST", "PASSING"),
    "policy": ("TRUSTED",),
    "choosing": ("RISKED", "RESERVED", "PATIENCE", "LONG_ENOUGH", "DEAR", "LASTING"),
    "budget": ("FULL", "CROWDING", "WORTH", "FIRST_OUTAGE"),
    "fresh": ("COSTLIEST",),
    "hazard": ("PRIOR_RISK", "WALL"),
    "limit": ("EVIDENCE", "SCOUTS", "FIRST_SAFE", "SHORTEST_STEP", "LET_GO"),
    "review": ("CLEAR", "CHEAPER", "RARER"),
    "working": ("LOOK", "ELITE_LOOK", "SPARE", "SPREADING", "SHARING", "LEAD"),
}
"""The constants by the module that documents them: meaning, unit and source are there."""


@contextmanager
def scaled(module: str, name: str, factor: float) -> Iterator[None]:
    """Let a constant have another value for a while, in every module that uses it."""
    home = import_module(f"{PACKAGE}.{module}")
    old = getattr(home, name)
    new: float = old * factor
    if isinstance(old, int):
        new = max(1, round(new))
    users = [
        loaded
        for path, loaded in list(sys.modules.items())
        if path.startswith(PACKAGE) and getattr(loaded, name, None) is old
    ]
    try:
        for user in users:
            setattr(user, name, new)
        yield
    finally:
        for user in users:
            setattr(user, name, old)


def mean_ratio(configs: list[Cfg], seeds: range, oracle: dict[Any, float]) -> float:
    """Return the mean ratio to the oracle; ``oracle`` keeps what it got."""
    ratios = []
    for config in configs:
        for seed in seeds:
            key = config.name, seed
            if key not in oracle:
                run = simulate(config, Oracle, seed, clairvoyant=True)
                oracle[key] = 0.0 if run["U"] <= 0.3 or run["lost"] else run["U"]
            if oracle[key]:
                ratios.append(simulate(config, Product, seed)["U"] / oracle[key])
    return sum(ratios) / len(ratios)


def table(configs: list[Cfg], seeds: range, only: set[str]) -> Iterator[str]:
    """Yield the lines of the table as they are found."""
    oracle: dict[Any, float] = {}
    shipped = mean_ratio(configs, seeds, oracle)
    yield f"| constant | shipped | halved | doubled |  (ratio {shipped:.3f} as shipped)"
    yield "|---|---:|---:|---:|"
    for module, names in CONSTANTS.items():
        for name in names:
            if only and name not in only:
                continue
            changes = []
            for factor in (0.5, 2.0):
                with scaled(module, name, factor):
                    changes.append(mean_ratio(configs, seeds, oracle) - shipped)
            value = getattr(import_module(f"{PACKAGE}.{module}"), name)
            yield f"| `{module}.{name}` | {value:g} | {changes[0]:+.3f} | {changes[1]:+.3f} |"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensitivity")
    parser.add_argument("--scenarios", default="", help="comma-separated beginnings of names")
    parser.add_argument("--random", default="", help="FROM:TO, random worlds instead")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--pages", type=int, default=0, help="a shorter crawl than the worlds have")
    parser.add_argument("--only", default="", help="comma-separated names of constants")
    options = parser.parse_args(argv)
    configs = chosen_worlds(options.scenarios, options.random)
    for config in configs:
        config.pages = options.pages or config.pages
    only = set(filter(None, options.only.split(",")))
    for line in table(configs, range(options.seeds), only):
        print(line, flush=True)


if __name__ == "__main__":
    main()
