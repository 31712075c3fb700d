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
    for policy in table.policies:
        ours = policy == "product"
        axes.plot(
            [table.mean(name, policy, "ratio") for name in scenarios],
            range(len(scenarios)),
            "D" if ours else "o",
            color="crimson" if ours else None,
            alpha=1.0 if ours else 0.5,
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
        run.result()
        times = run.finished_at
        axes.plot(
            times,
            range(1, len(times) + 1),
            label=name,
            linewidth=3 if name == "product" else 1.2,
            color="crimson" if name == "product" else None,
        )
    axes.set_xlim(0, 60)
    axes.set_xlabel("seconds")
    axes.set_ylabel("pages fetched of 4,000")
    axes.set_title("200 proxies of which 80 work, 20 requests per 10 s and address", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
