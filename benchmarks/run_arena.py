"""The peer table: ``python -m benchmarks.run_arena``.

Runs every policy in the same worlds with the same seeds, side by side, in one process, and prints
Markdown: ratio to the oracle per scenario, and a summary with success, speed and lost pages.

    python -m benchmarks.run_arena --seeds 8                          the 18 scenarios
    python -m benchmarks.run_arena --random 0:60 --seeds 1            60 random worlds
    python -m benchmarks.run_arena --policies product,lru600 --scenarios S2b,S6
    python -m benchmarks.run_arena --policy mypackage.mymodule:MyPolicy
    python -m benchmarks.run_arena --plots docs                       also ratio.png and pages.png
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.arena import Result, simulate
from benchmarks.arena_oracle import Oracle, OracleNoLatency
from benchmarks.contender import Product
from benchmarks.peers import PEERS
from benchmarks.worlds import Cfg, chosen_worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOW = ("thompson", "ucbair")
"""Peers left out unless named: they need most of the time and win nothing."""


@dataclass
class Table:
    """Results by scenario and policy."""

    policies: list[str]
    results: dict[str, dict[str, list[Result]]] = field(default_factory=dict)

    def mean(self, scenario: str, policy: str, key: str) -> float:
        rows = self.results[scenario][policy]
        return sum(row[key] for row in rows) / len(rows)

    def best_peer(self, scenario: str) -> float:
        return max(
            (self.mean(scenario, p, "ratio") for p in self.policies if p in PEERS),
            default=math.nan,
        )

    def behind(self, policy: str) -> list[str]:
        """Return the scenarios in which the best peer's ratio is higher by more than .05."""
        return [
            name
            for name in self.results
            if self.mean(name, policy, "ratio") < self.best_peer(name) - 0.05
        ]

    def markdown(self) -> Iterator[str]:
        """Yield the ratios, and the summary."""
        yield from self.ratios()
        yield ""
        yield from self.summary()

    def ratios(self) -> Iterator[str]:
        """Yield a table of ratios to the oracle by scenario; the best is bold."""
        yield "| scenario | " + " | ".join(self.policies) + " |"
        yield "|---|" + "---:|" * len(self.policies)
        for scenario in self.results:
            best = max(
                self.mean(scenario, p, "ratio") for p in self.policies if not p.startswith("oracle")
            )
            cells = []
            for policy in self.policies:
                ratio = self.mean(scenario, policy, "ratio")
                wins = ratio >= best - 1e-9 and not policy.startswith("oracle")
                cells.append(f"**{ratio:.2f}**" if wins else f"{ratio:.2f}")
            yield f"| {scenario} | " + " | ".join(cells) + " |"

    def summary(self) -> Iterator[str]:
        """Yield a table of means over all scenarios, by policy."""
        yield "| policy | ratio | worst | succ | speed | lost % | behind best peer by > .05 |"
        yield "|---|---:|---:|---:|---:|---:|---:|"
        for policy in self.policies:
            yield self._summary(policy)

    def _summary(self, policy: str) -> str:
        names = list(self.results)

        def over(key: str) -> float:
            return sum(self.mean(name, policy, key) for name in names) / len(names)

        ratios = [self.mean(name, policy, "ratio") for name in names]
        lost = sum(
            self.mean(name, policy, "lost") / self.results[name][policy][0]["pages"]
            for name in names
        ) / len(names)
        return (
            f"| {policy} | {over('ratio'):.3f} | {min(ratios):.2f} | {over('succ'):.2f} | "
            f"{over('speed'):.2f} | {100 * lost:.2f} | {len(self.behind(policy))} of {len(names)} |"
        )


def measure(
    configs: list[Cfg],
    policies: dict[str, Callable[..., Any]],
    seeds: range,
    *,
    save: Callable[[dict[str, Any]], None] | None = None,
) -> Table:
    """Run everything; a world in which not even the oracle gets anywhere is left out.

    "Anywhere" is U over .3 and no page lost, as only the random worlds can be.
    """
    table = Table(list(policies))
    for config in configs:
        oracle = {seed: simulate(config, Oracle, seed, clairvoyant=True) for seed in seeds}
        if any(run["U"] <= 0.3 or run["lost"] for run in oracle.values()):
            print(f"{config.name}: infeasible", file=sys.stderr)
            continue
        rows = table.results[config.name] = {}
        for name, make in policies.items():
            rows[name] = []
            for seed in seeds:
                run = simulate(config, make, seed, clairvoyant=make in (Oracle, OracleNoLatency))
                run["ratio"] = run["U"] / oracle[seed]["U"]
                run["pages"] = config.pages
                rows[name].append(run)
                if save is not None:
                    save({"scenario": config.name, "policy": name, "seed": seed, **run})
        told = "  ".join(f"{name} {table.mean(config.name, name, 'ratio'):.2f}" for name in rows)
        print(f"{config.name}: {told}", file=sys.stderr, flush=True)
    return table


def chosen(names: str, extra: list[str]) -> dict[str, Callable[..., Any]]:
    """Return the policies of a comma-separated list of names, and those named by import path."""
    known: dict[str, Callable[..., Any]] = {
        **PEERS,
        "product": Product,
        "oracle_nl": OracleNoLatency,
    }
    wanted = [name for name in known if name not in SLOW] if names == "all" else names.split(",")
    unknown = sorted(set(wanted) - known.keys())
    if unknown:
        msg = f"--policies: no {', '.join(unknown)}; there are: {', '.join(known)}"
        raise SystemExit(msg)
    policies = {name: known[name] for name in wanted}
    for path in extra:
        module, _, attribute = path.partition(":")
        policies[attribute] = getattr(import_module(module), attribute)
    return policies


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_arena")
    parser.add_argument("--policies", default="all", help="comma-separated; all but the slow")
    parser.add_argument("--policy", action="append", default=[], help="module:Class of your own")
    parser.add_argument("--scenarios", default="", help="comma-separated beginnings of names")
    parser.add_argument("--random", default="", help="FROM:TO, random worlds instead")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--seed0", type=int, default=0, help="the first")
    parser.add_argument("--json", default="", help="append one line per run to this file")
    parser.add_argument("--plots", default="", help="directory for ratio.png and pages.png")
    options = parser.parse_args(argv)
    configs = chosen_worlds(options.scenarios, options.random)
    policies = chosen(options.policies, options.policy)
    lines: list[dict[str, Any]] = []
    seeds = range(options.seed0, options.seed0 + options.seeds)
    table = measure(configs, policies, seeds, save=lines.append)
    print("\n".join(table.markdown()))
    if options.json:
        with Path(options.json).open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)
    if options.plots:
        from benchmarks.plots import draw  # noqa: PLC0415 - matplotlib is only needed here

        draw(table, policies, Path(options.plots))


if __name__ == "__main__":
    main()
