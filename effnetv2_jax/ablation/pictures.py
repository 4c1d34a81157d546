"""Pictures of ablation tables: the accuracy of each row with its runs, and lines for each image size."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.figure import Figure

from effnetv2_jax.ablation.figures import RowResult, TableResult
from effnetv2_jax.ablation.tables import Measure
from effnetv2_jax.drawable_text import drawable

_BLUE, _GREY = "#4c72b0", "#b0b0b0"


def draw_table(path: Path, result: TableResult) -> None:
    """Writes a PNG file of a table: the top-1 of each row with its spread, and the time of its steps."""
    figure = _grid(result) if any(row.row.point for row in result.rows) else _rows(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _rows(result: TableResult) -> Figure:
    rows = [row for row in result.rows if row.values["top1"]]
    figure = Figure(figsize=(10, 1.6 + 0.5 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    figure.suptitle(drawable(result.table.title))
    for number, row in enumerate(rows):
        left.scatter(row.values["top1"], [number] * len(row.values["top1"]), s=16, color=_GREY, zorder=2)
        left.errorbar(row.mean("top1"), number, xerr=_spread(row), fmt="o", color=_BLUE, capsize=4, zorder=3)
    left.set_yticks(range(len(rows)), [drawable(row.row.name) for row in rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("top-1, %: runs, mean and standard deviation")
    measure: Measure = "steps_per_second" if result.table.networks else "seconds"
    label = "steps a second" if result.table.networks else "seconds of steps"
    values = [row.mean(measure) if row.values[measure] else 0.0 for row in rows]
    right.bar_label(right.barh(range(len(rows)), values, 0.5, color=_BLUE), fmt=" {:.3g}", fontsize=8)
    right.set_xlabel(f"{label}, here")
    right.margins(x=0.18)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#eeeeee")
        axes.set_axisbelow(True)
    return figure


def _grid(result: TableResult) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    lines: dict[int, list[tuple[float, RowResult]]] = {}
    for row in result.rows:
        if row.row.point and row.values["top1"]:
            size, magnitude = row.row.point
            lines.setdefault(size, []).append((magnitude, row))
    for size, points in lines.items():
        magnitudes = [magnitude for magnitude, _ in points]
        means, spreads = [row.mean("top1") for _, row in points], [_spread(row) for _, row in points]
        axes.errorbar(magnitudes, means, yerr=spreads, marker="o", capsize=4, label=f"{size} px")
    axes.set_xlabel("magnitude of RandAugment")
    axes.set_ylabel("top-1, %: mean and standard deviation")
    axes.set_title(drawable(result.table.title))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _spread(row: RowResult) -> float:
    spread = row.spread("top1")
    return 0.0 if math.isnan(spread) else spread
