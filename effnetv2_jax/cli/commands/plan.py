"""`effnetv2 plan`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.box
import rich.table

from effnetv2_jax.cli.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.cli.numbers import above_zero, whole
from effnetv2_jax.cli.tables import Columns, make_table

if TYPE_CHECKING:
    from effnetv2_jax.analysis.plan import Plan, Row
    from effnetv2_jax.analysis.program_cost import ProgramCost
    from effnetv2_jax.analysis.topology import Topology
    from effnetv2_jax.train.config import TrainConfig

_ESTIMATES = (
    "The TPU compiler's estimates, not measurements: communication, input and waiting are not in them. hbm %: bytes "
    "read and written by all operations, the fast on-chip memory's included, against HBM's bandwidth."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config_argument(parser, required=False)
    parser.add_argument(
        "--topology", default="", metavar="TPU", help="compile for it: v5e-8, v4-32, v5e:2x4, 2xv5e-16, …"
    )
    parser.add_argument("--compare", default="", metavar="TPU|CONFIG", help="another TPU or config beside it")
    parser.add_argument("--price", type=above_zero, help="of a chip for an hour")
    parser.add_argument(
        "--layers", type=whole(1), nargs="?", const=15, default=0, metavar="N", help="the N dearest layers"
    )
    parser.add_argument("--picture", default="", metavar="FILE.png", help="draw time by stage and kind of operation")
    parser.add_argument("--json", action="store_true", help="print JSON, an object a program")
    parser.add_argument("--variant", default="", help="plan single programs of it, without a config")
    parser.add_argument("--sizes", metavar="PX,PX,…", help="with --variant: a program for each")
    parser.add_argument("--batch-per-chip", type=whole(1), help="with --variant (default: 64)")
    parser.add_argument("--dtype", help="with --variant: bfloat16 (the default) or float32")
    parser.add_argument("--cache", default=None, metavar="FOLDER", help="of compiled plans; '' keeps none")


def run(arguments: argparse.Namespace) -> int:
    """Plans a config or single programs, and prints tables or JSON."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # whatever accelerator is here is left alone
    jax.config.update("jax_enable_compilation_cache", False)  # it can't hold programs of a TPU that is not there
    requests = _requests(arguments)
    plans = {name: _plan(arguments, *request) for name, request in requests.items()}
    if arguments.json:
        rows = [_facts(arguments, name, plan, row) for name, plan in plans.items() for row in plan.rows]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        _print(arguments, plans)
    first = next(iter(plans.values()))
    if arguments.picture and first.fits:
        from effnetv2_jax.analysis.plan_picture import draw_plan

        draw_plan(Path(arguments.picture), first)
        print(f"picture: {arguments.picture}", file=sys.stderr)
    return 0 if all(plan.fits for plan in plans.values()) else 1


def _requests(arguments: argparse.Namespace) -> dict[str, tuple[TrainConfig | None, Topology | None]]:
    """Returns what to plan by name: a config (None: single programs) and a slice, and the ones to compare with.

    Raises:
      UsageError: for arguments that do not go together.
    """
    from effnetv2_jax.analysis.topology import parse_topology

    topology = parse_topology(arguments.topology) if arguments.topology else None
    if bool(arguments.config) == bool(arguments.variant):
        raise UsageError("give either --config or --variant (with --sizes)")
    if arguments.config and (arguments.sizes or arguments.batch_per_chip or arguments.dtype):
        raise UsageError("--sizes, --batch-per-chip and --dtype go with --variant; a config has its own")
    if topology is None and (arguments.compare or arguments.layers or arguments.picture or arguments.price):
        raise UsageError("--compare, --layers, --picture and --price need --topology")
    config = load_config(arguments) if arguments.config else None
    requests = {_name(arguments.config or arguments.variant, topology): (config, topology)}
    if ".py" in arguments.compare:
        other = argparse.Namespace(**{**vars(arguments), "config": arguments.compare})
        requests[_name(arguments.compare, topology)] = load_config(other), topology
    elif arguments.compare:
        compared = parse_topology(arguments.compare)
        requests[_name(arguments.config or arguments.variant, compared)] = config, compared
    return requests


def _name(what: str, topology: Topology | None) -> str:
    return f"{Path(what).name} {topology.name}" if topology else Path(what).name


def _facts(arguments: argparse.Namespace, name: str, plan: Plan, row: Row) -> dict[str, Any]:
    """Returns a program's figures with what the flags add to them."""
    facts = {"plan": name} | plan.facts(row)
    if arguments.price and row.cost:
        facts["price"] = arguments.price * facts["chip_hours"]
    if arguments.layers and row.cost:
        facts["cycles_by_layer"] = dict(_dearest(row.cost, arguments.layers))
    return facts


def _plan(arguments: argparse.Namespace, config: TrainConfig | None, topology: Topology | None) -> Plan:
    from effnetv2_jax.analysis.plan import make_plan, planned_experiment, single_programs
    from effnetv2_jax.analysis.program_cost import CACHE

    if config is None:
        chips = topology.chips if topology else 1
        sizes, dtype = _sizes(arguments.sizes or ""), arguments.dtype or "bfloat16"
        config = single_programs(arguments.variant, sizes, arguments.batch_per_chip or 64, chips, dtype)
    cache = CACHE if arguments.cache is None else arguments.cache
    experiment = planned_experiment(config, topology.devices if topology else 1)
    return make_plan(experiment, topology, cache, lambda text: print(text, file=sys.stderr, flush=True))


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--sizes must be pixels with commas between, as in 128,192; got {text!r}") from None
    if min(sizes) < 1:
        raise UsageError(f"--sizes must be at least 1, got {text!r}")
    return sizes


# Tables of a plan: a column's title → the key of a program's facts, how it is written, and what it is multiplied by.
_WORK: Columns = {
    "program": ("program", "{}"),
    "px": ("image_size", "{}"),
    "steps": ("steps", "{:,}"),
    "images": ("batch_size", "{:,}"),
    "a chip": ("batch_per_chip", "{:,}"),
    "microbatches": ("accumulation_steps", "{}"),
    "GFLOP/image": ("flops_per_image", "{:.3g}", 1e-9),
}
_MEMORY: Columns = {
    "program": ("program", "{}"),
    "HBM, GB": ("hbm_bytes", "{:.2f}", 1e-9),
    "free": ("hbm_free_bytes", "{:.2f}", 1e-9),
    "all-reduces": ("all_reduce_count", "{:,}"),
    "of MB": ("all_reduce_bytes", "{:.1f}", 1e-6),
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
# Title → table; those after the first need a slice.
_TABLES = {
    "the run": _WORK,
    "memory and communication of a chip": _MEMORY,
    "time of a chip": _TIME,
}


def _print(arguments: argparse.Namespace, plans: dict[str, Plan]) -> None:
    from effnetv2_jax.train.report.progress import make_console, stage_table

    console = make_console()
    first = next(iter(plans.values()))
    experiment = first.experiment
    console.print(
        f"{experiment.spec.name}, {experiment.total_steps:,} steps of {experiment.config.batch_size:,} images"
        f" ({experiment.total_steps / experiment.steps_per_epoch:.4g} epochs of {experiment.config.data.dataset})"
    )
    console.print(stage_table(experiment.stages, experiment.config.data.augmentation))
    for plan in plans.values():
        name = f"{plan.topology.chips} chips, {plan.topology.name}" if plan.topology else ""
        for title, columns in _TABLES.items():
            if plan.topology or columns is _WORK:
                rows = [plan.facts(row) for row in plan.rows]
                console.print(make_table(rows, columns, f"{title} · {name}" if name else title))
        if plan.topology and not plan.fits:
            console.print(
                "It does not fit: take a smaller batch_size, accumulation_steps=auto, model.remat or more chips"
            )
        elif plan.topology:
            console.print(_total(plan, arguments.price))
            if arguments.layers:
                console.print(_layers(plan, arguments.layers))
    if len(plans) == 2 and all(plan.fits for plan in plans.values()):
        console.print(_comparison(plans))
    if first.topology:
        console.print(_ESTIMATES)


def _total(plan: Plan, price: float | None) -> str:
    assert plan.topology is not None
    chip_hours = plan.hours * plan.topology.chips
    money = f", {chip_hours * price:,.2f} at {price:g} a chip-hour" if price else ""
    groups = sorted({int(size) for row in plan.rows if row.cost for size in row.cost.all_reduce_groups})
    summed = f"; all-reduces over {' and '.join(map(str, groups))} devices" if groups else ""
    return f"{plan.hours:.3g} hours in all, {chip_hours:,.1f} chip-hours{money}{summed}"


def _layers(plan: Plan, count: int) -> rich.table.Table:
    dearest = max(plan.rows[:-1], key=plan.seconds)
    assert dearest.cost is not None
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.title = f"dearest layers of {dearest.name}, {dearest.image_size} px"
    table.add_column("layer")
    table.add_column("M cycles", justify="right")
    table.add_column("%", justify="right")
    for name, cycles in _dearest(dearest.cost, count):
        table.add_row(name, f"{cycles / 1e6:.3f}", f"{100 * cycles / dearest.cost.estimated_cycles:.1f}")
    return table


def _dearest(cost: ProgramCost, count: int) -> list[tuple[str, int]]:
    return sorted(cost.cycles_by_layer.items(), key=lambda item: -item[1])[:count]


def _comparison(plans: dict[str, Plan]) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.title = "side by side, images/s of all chips"
    for title in ("program", *plans, "ratio"):
        table.add_column(title, justify="right")
    rates = [{row.name: row.batch_size / plan.seconds(row) for row in plan.rows} for plan in plans.values()]
    for program in dict.fromkeys(name for each in rates for name in each):
        table.add_row(program, *_side_by_side([each.get(program) for each in rates], "{:,.0f}"))
    table.add_row("hours", *_side_by_side([plan.hours for plan in plans.values()], "{:.3g}"))
    return table


def _side_by_side(values: list[float | None], form: str) -> list[str]:
    """Returns two values and the second as a multiple of the first; a dash for what only one plan has."""
    left, right = values
    ratio = f"{right / left:.2f}" if left and right else "–"
    return [*("–" if value is None else form.format(value) for value in values), ratio]
