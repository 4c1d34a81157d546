"""Draws what a search for fast programs has gained."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from effnetv2_jax.analysis.tuning.search import Result


def draw_tuning(path: Path, result: Result) -> None:
    """Writes a PNG file with the time per image of each program, before and after the search."""
    before, after = result.before, result.after
    assert before.topology is not None
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    names = [f"{program.name}\n{program.image_size} px" for program in before.programs]
    for offset, plan, label in ((-0.2, before, "before"), (0.2, after, "after")):
        times = [1e6 * plan.seconds(program) * before.topology.chips / program.batch_size for program in plan.programs]
        bars = axes.bar([index + offset for index in range(len(names))], times, 0.38, label=label)
        axes.bar_label(bars, fmt="{:.3g}", fontsize=8)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("microseconds of a chip per image")
    axes.set_title(
        f"{before.experiment.spec.name} on {before.topology.name}\n"
        f"{before.hours:.3g} → {after.hours:.3g} hours by the TPU compiler's estimates"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
