"""How the cost of a run grows with the number of chips of a slice, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from effnetv2_jax.analysis.plan import Plan
from effnetv2_jax.analysis.topology import Topology, parse_topology
from effnetv2_jax.train.tuned_programs import EVALUATION


def slices_of(topology: Topology, chips: Sequence[int]) -> list[Topology]:
    """Returns the slices of a generation with these numbers of chips, ascending.

    Raises:
      ValueError: for a number of chips that no slice has.
    """
    cores = 2 if topology.chip.cores_in_name else 1
    return [parse_topology(f"{topology.chip.name}-{cores * count}") for count in sorted(set(chips))]


def growth_figures(plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Returns what the training of a run costs on each of several slices, as JSON values.

    Cycles are those of one chip for one image, on average over the stages, and all-reduces those of a step. Every plan
    must have a slice that its programs fit. `efficiency` is the ratio of the chip-hours to those of the first plan.
    """
    rows = [_figures(plan) for plan in plans]
    return [row | {"efficiency": rows[0]["chip_hours"] / row["chip_hours"]} for row in rows]


def _figures(plan: Plan) -> dict[str, Any]:
    assert plan.topology is not None
    chips, devices = plan.topology.chips, plan.topology.chip.devices
    steps = images = cycles = all_reduced = count = 0.0
    for program in plan.programs:
        if program.name != EVALUATION:
            assert program.cost is not None
            steps += program.steps
            images += program.steps * program.batch_size / chips
            cycles += program.steps * program.cost.estimated_cycles
            all_reduced += program.steps * devices * program.cost.all_reduce_bytes
            count += program.steps * program.cost.all_reduce_count
    return {
        "topology": plan.topology.name,
        "chips": chips,
        "batch_per_chip": plan.experiment.config.batch_size // chips,
        "microbatches": [program.microbatches for program in plan.programs if program.name != EVALUATION],
        "cycles_per_image": cycles / images,
        "all_reduce_count": count / steps,
        "all_reduce_bytes": all_reduced / steps,
        "hours": plan.hours,
        "chip_hours": plan.hours * chips,
    }


def draw_growth(path: Path, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a PNG file with the hours, the cycles and the all-reduces of each slice."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    figure.suptitle(title)
    chips = [row["chips"] for row in rows]
    panels = (
        ("hours of the run", [row["hours"] for row in rows]),
        ("thousand cycles of a chip for an image", [row["cycles_per_image"] / 1e3 for row in rows]),
        ("MB of all-reduces in a step on a chip", [row["all_reduce_bytes"] / 1e6 for row in rows]),
    )
    hours, *others = figure.subplots(1, len(panels))
    for axes, (name, values) in zip((hours, *others), panels, strict=True):
        axes.plot(chips, values, marker="o")
        axes.set_xscale("log", base=2)
        axes.set_xticks(chips, list(map(str, chips)))
        axes.set_xlabel("chips")
        axes.set_title(name, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in others:
        axes.set_ylim(bottom=0)
    hours.plot(chips, [rows[0]["hours"] * chips[0] / count for count in chips], linestyle=":", color="grey")
    hours.set_yscale("log")
    hours.legend(["estimated", "in proportion to the chips"], frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
