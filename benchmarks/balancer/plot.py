"""Pages over time, ours and the peers', one picture a layout; needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.balancer.contenders import Result
    from benchmarks.balancer.layouts import Layout

mpl.use("Agg")
from matplotlib import pyplot as plt


def draw(crawls: list[tuple[Layout, list[Result]]], path: Path) -> None:
    """Write one picture with a panel for each layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (len(crawls) + 1) // 2
    figure, panels = plt.subplots(
        rows, min(2, len(crawls)), figsize=(11, 3.6 * rows), squeeze=False
    )
    for axes, (layout, results) in zip(panels.flat, crawls, strict=False):
        for result in results:
            ours = result.contender == "adaptive"
            axes.plot(
                [0.0, *result.times, result.seconds],
                [*range(result.fetched + 1), result.fetched],
                label=f"{result.contender} ({result.per_page:.2f} requests a page)",
                linewidth=3 if ours else 1.2,
                color="crimson" if ours else None,
            )
        axes.axvline(layout.allowed, color="gray", linestyle=":", linewidth=1)
        axes.set_title(
            f"{layout.good} of {layout.proxies} proxies work, {layout.limit} requests "
            f"per {layout.window} s and address",
            fontsize=9,
        )
        axes.set_xlabel("seconds (dotted: what the limits allow)", fontsize=8)
        axes.set_ylabel(f"pages of {layout.pages:,}", fontsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="lower right")
    for axes in panels.flat[len(crawls) :]:
        axes.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
