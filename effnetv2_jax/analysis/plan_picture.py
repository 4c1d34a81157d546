"""The picture of a plan: where the time of a run goes."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from effnetv2_jax.analysis.hlo import KINDS
from effnetv2_jax.analysis.plan import Plan


def draw_plan(path: Path, plan: Plan) -> None:
    """Draws the hours of each program by kind of operation, and the cycles of one image by the same, into a PNG."""
    assert plan.topology is not None
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(
        f"{plan.experiment.spec.name} on {plan.topology.name}: {plan.hours:.3g} hours by the TPU compiler's estimates"
    )
    clock = plan.topology.chip.clock
    names = [f"{row.name}\n{row.image_size} px" for row in plan.rows]
    panels = (
        ("hours of the run", [row.steps / clock / 3600 for row in plan.rows]),
        ("milliseconds of a call", [1e3 / clock for _ in plan.rows]),
    )
    for axes, (title, scales) in zip(figure.subplots(1, 2), panels, strict=True):
        bottom = [0.0] * len(plan.rows)
        for kind in KINDS:
            cycles = [row.cost.cycles_by_kind.get(kind, 0) if row.cost else 0 for row in plan.rows]
            if any(cycles):
                heights = [count * scale for count, scale in zip(cycles, scales, strict=True)]
                axes.bar(names, heights, bottom=bottom, label=kind)
                bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
