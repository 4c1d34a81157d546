"""Draws the time that a plan estimates, by program and kind of operation."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from effnetv2_jax.analysis.hlo import KINDS
from effnetv2_jax.analysis.plan import Plan


def draw_plan(path: Path, plan: Plan) -> None:
    """Writes a PNG file with the hours of each program in a run and the time of one call, by kind of operation.

    The plan must have a slice that every program fits.
    """
    assert plan.topology is not None
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(
        f"{plan.experiment.spec.name} on {plan.topology.name}: {plan.hours:.3g} hours by the TPU compiler's estimates"
    )
    clock = plan.topology.chip.clock
    names = [f"{program.name}\n{program.image_size} px" for program in plan.programs]
    panels = (
        ("hours of the run", [program.steps / clock / 3600 for program in plan.programs]),
        ("milliseconds per call", [1e3 / clock for _ in plan.programs]),
    )
    for axes, (title, scales) in zip(figure.subplots(1, 2), panels, strict=True):
        bottom = [0.0] * len(plan.programs)
        for kind in KINDS:
            cycles = [program.cost.cycles_by_kind.get(kind, 0) if program.cost else 0 for program in plan.programs]
            if any(cycles):
                heights = [count * scale for count, scale in zip(cycles, scales, strict=True)]
                axes.bar(names, heights, bottom=bottom, label=kind)
                bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
