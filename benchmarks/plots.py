"""Two pictures of the peer table; needs matplotlib (``pip install matplotlib``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from benchmarks.arena import Run
from benchmarks.arena_oracle import OracleNoLatency
from benchmarks.worlds import RATE_LIMITED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.run_arena import Table

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw(table: Table, policies: dict[str, Callable[..., Any]], folder: Path) -> None:
    """Write ratio.png (per scenario and policy) and pages.png (over time, one crawl)."""
    folder.mkdir(parents=True, exist_ok=True)
    _ratios(table, folder / "ratio.png")
    _pages(policies, folder / "pages.png")


def _ratios(table: Table, path: Path) -> None:
    scenarios = list(table.results)
    figure, axes = plt.subplots(figsize=(9, 0.4 * len(scenarios) + 1.5))
    colours = plt.get_cmap("tab20")(range(20))
    for number, policy in enumerate(table.policies):
        marker, colour, size = "o", colours[number], 6
        if policy == "product":
            marker, colour, size = "D", "crimson", 7
        elif policy.startswith("oracle"):
            marker, colour, size = "|", "black", 12
        axes.plot(
            [table.mean(name, policy, "ratio") for name in scenarios],
            range(len(scenarios)),
            marker,
            color=colour,
            markersize=size,
            alpha=0.8,
            label=policy,
        )
    axes.set_yticks(range(len(scenarios)), scenarios)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.05)
    axes.set_xlabel("goodput, as a share of a clairvoyant oracle's")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small", loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _pages(policies: dict[str, Callable[..., Any]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 5))
    for name, make in policies.items():
        if make is OracleNoLatency:
            continue
        run = Run(RATE_LIMITED, make, 1)
        result = run.result()
        times = run.finished_at
        ours = name == "product"
        axes.plot(
            times,
            range(1, len(times) + 1),
            label=f"{name} ({result['req'] / len(times):.2f} requests a page)",
            linewidth=3 if ours else 1.2,
            color="crimson" if ours else None,
        )
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("pages fetched of 4,000")
    axes.set_title("200 proxies of which 80 work, 20 requests per 10 s and address", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
