"""The tables that `effnetv2 plan` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table

from effnetv2_jax.analysis.plan import Plan
from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.train.report.console import make_console
from effnetv2_jax.train.report.description import RunDescription
from effnetv2_jax.train.report.progress import stage_table

_ESTIMATES = (
    "These are estimates by the TPU compiler, not measurements: they leave out communication, input and idle time. "
    "hbm %: bytes read and written per second, including those of the fast on-chip memory, relative to HBM's "
    "bandwidth. cores needed: for images of ImageNet's size with RandAugment, as measured in docs/performance.md."
)

# The tables of a plan: column title → the key of a program's figures, its format and a factor to multiply it by.
_WORK: Columns = {
    "program": ("program", "{}"),
    "px": ("image_size", "{}"),
    "steps": ("steps", "{:,}"),
    "images": ("batch_size", "{:,}"),
    "per chip": ("batch_per_chip", "{:,}"),
    "microbatches": ("accumulation_steps", "{}"),
    "GFLOP/image": ("flops_per_image", "{:.3g}", 1e-9),
}
_MEMORY: Columns = {
    "program": ("program", "{}"),
    "HBM, GB": ("hbm_bytes", "{:.2f}", 1e-9),
    "free": ("hbm_free_bytes", "{:.2f}", 1e-9),
    "all-reduces": ("all_reduce_count", "{:,}"),
    "their MB": ("all_reduce_bytes", "{:.1f}", 1e-6),
    "DCN messages": ("dcn_transfers", "{:,}"),
    "DCN MB": ("dcn_bytes", "{:.1f}", 1e-6),
    "compiled in s": ("compile_seconds", "{:.0f}"),
}
_TIME: Columns = {
    "program": ("program", "{}"),
    "TFLOP": ("flops", "{:.3g}", 1e-12),
    "M cycles": ("estimated_cycles", "{:.2f}", 1e-6),
    "step, ms": ("step_seconds", "{:.1f}", 1e3),
    "images/s": ("images_per_second_per_chip", "{:,.0f}"),
    "mxu %": ("mxu_fraction", "{:.1f}", 1e2),
    "hbm %": ("hbm_fraction", "{:.0f}", 1e2),
}
_INPUT: Columns = {
    "program": ("program", "{}"),
    "images/s": ("host_images_per_second", "{:,.0f}"),
    "read, MB/s": ("host_read_bytes_per_second", "{:,.0f}", 1e-6),
    "cores needed": ("host_cores_needed", "{:,.0f}"),
    "of": ("host_cores", "{:,}"),
    "limit": ("limited_by", "{}"),
}
_GROWTH: Columns = {
    "chips": ("chips", "{:,}"),
    "images a chip": ("batch_per_chip", "{:,}"),
    "k cycles an image": ("cycles_per_image", "{:,.1f}", 1e-3),
    "all-reduces a step": ("all_reduce_count", "{:,.0f}"),
    "their MB": ("all_reduce_bytes", "{:,.1f}", 1e-6),
    "hours": ("hours", "{:,.3g}"),
    "chip-hours": ("chip_hours", "{:,.1f}"),
    "efficiency": ("efficiency", "{:.2f}"),
    "price": ("price", "{:,.2f}"),
}
# Title → columns. All tables except the first need a slice.
_TABLES = {
    "the run": _WORK,
    "memory and communication per chip": _MEMORY,
    "time per chip": _TIME,
}


def print_plans(plans: Mapping[str, Plan], price: float | None = None, layers: int = 0) -> None:
    """Prints the tables of each plan, and a comparison if there are two plans that fit.

    Args:
      plans: name → plan.
      price: price of a chip for one hour.
      layers: number of layers to list, slowest first; 0 for none.
    """
    console = make_console()
    first = next(iter(plans.values()))
    shown = None
    for plan_name, plan in plans.items():
        if plan.experiment.config is not shown:
            shown = plan.experiment.config
            console.print(f"{plan_name}: {_summary(plan.experiment.description())}")
            console.print(stage_table(plan.experiment.description()))
        name = f"{_counted(plan.topology.chips, 'chip')}, {plan.topology.name}" if plan.topology else ""
        for title, columns in _TABLES.items():
            if plan.topology or columns is _WORK:
                figures = [plan.figures(program) for program in plan.programs]
                console.print(make_table(figures, columns, f"{title} · {name}" if name else title))
        if plan.topology and not plan.fits:
            console.print(
                "The run does not fit: use accumulation_steps=auto, model.remat, a smaller batch_size or more chips"
            )
        elif plan.topology:
            console.print(_input_table(plan))
            console.print(_total(plan, price))
            for line in plan.experiment.tuning_lines() + _options(plan):
                console.print(line)
            if layers:
                console.print(_layers(plan, layers))
    if len(plans) == 2 and all(plan.fits for plan in plans.values()):
        console.print(comparison_table(plans))
    if first.topology:
        console.print(_ESTIMATES)


def print_growth(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints what a run costs on slices of several sizes."""
    console = make_console()
    console.print(make_table(rows, _GROWTH, f"{title}, on average over the stages"))
    console.print(_ESTIMATES.partition(" hbm %")[0])


def _summary(run: RunDescription) -> str:
    images = f"{_counted(run.total_steps, 'step')} of {_counted(run.batch_size, 'image')}"
    return f"{run.spec.name}, {images} ({run.epochs:.4g} epochs of {run.dataset})"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _input_table(plan: Plan) -> rich.table.Table:
    """Returns a table of what each host reads and decodes, so that the chips need not wait."""
    rows = [row for row in map(plan.figures, plan.programs) if "hosts" in row]
    hosts, parts = _counted(rows[0]["hosts"], "host"), _counted(plan.experiment.config.data.parts, "part")
    return make_table(rows, _INPUT, f"input of each host · {hosts}, training split in {parts}")


def _total(plan: Plan, price: float | None) -> str:
    assert plan.topology is not None
    chip_hours = plan.hours * plan.topology.chips
    money = f", {chip_hours * price:,.2f} at {price:g} a chip-hour" if price else ""
    groups = sorted({int(size) for program in plan.programs if program.cost for size in program.cost.all_reduce_groups})
    summed = f"; all-reduces over {' and '.join(map(str, groups))} devices" if groups else ""
    return f"{plan.hours:.3g} hours in total, {chip_hours:,.1f} chip-hours{money}{summed}"


def _options(plan: Plan) -> list[str]:
    """Returns the compiler's options of the programs that have any, and the rows that are computed again, in lines."""
    programs: dict[str, list[str]] = {}
    for program in plan.programs:
        if program.settings.extras:
            programs.setdefault(", ".join(program.settings.extras), []).append(program.name)
    return [f"{', '.join(names)}: {settings}" for settings, names in programs.items()]


def _layers(plan: Plan, count: int) -> rich.table.Table:
    slowest = max(plan.programs[:-1], key=plan.seconds)
    assert slowest.cost is not None
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.title = f"slowest layers of {slowest.name}, {slowest.image_size} px"
    table.add_column("layer")
    table.add_column("M cycles", justify="right")
    table.add_column("%", justify="right")
    for name, cycles in slowest.cost.slowest_layers(count):
        table.add_row(name, f"{cycles / 1e6:.3f}", f"{100 * cycles / slowest.cost.estimated_cycles:.1f}")
    return table


def comparison_table(plans: Mapping[str, Plan]) -> rich.table.Table:
    """Returns a table of the speed of each program and the hours of the run under two plans, with their ratio."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.title = "comparison, images/s of all chips"
    for title in ("program", *plans, "ratio"):
        table.add_column(title, justify="right")
    rates = [
        {program.name: program.batch_size / plan.seconds(program) for program in plan.programs}
        for plan in plans.values()
    ]
    for name in dict.fromkeys(name for each in rates for name in each):
        table.add_row(name, *_side_by_side([each.get(name) for each in rates], "{:,.0f}"))
    table.add_row("hours", *_side_by_side([plan.hours for plan in plans.values()], "{:.3g}"))
    return table


def _side_by_side(values: list[float | None], form: str) -> list[str]:
    """Returns two formatted values and the ratio of the second to the first; a dash stands for a missing value."""
    left, right = values
    ratio = f"{right / left:.2f}" if left and right else "–"
    return [*("–" if value is None else form.format(value) for value in values), ratio]
