"""`effnetv2 plan`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from effnetv2_jax.cli.options.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.cli.options.numbers import above_zero, whole
from effnetv2_jax.cli.options.own_configs import is_config

if TYPE_CHECKING:
    from effnetv2_jax.analysis.plan import Plan, PlannedProgram
    from effnetv2_jax.analysis.topology import Topology
    from effnetv2_jax.train.config import TrainConfig

_WITH_TOPOLOGY = ("compare", "growth", "layers", "picture", "price")
"""Arguments that need --topology."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config_argument(parser, default="none, which --variant allows", required=False)
    parser.add_argument(
        "--topology",
        default="",
        metavar="TPU",
        help="compile for this TPU slice and estimate memory and time: v5e-8, v4-32, v5e:2x4, 2xv5e-16, … "
        "(default: compile nothing)",
    )
    parser.add_argument(
        "--compare",
        default="",
        metavar="TPU|CONFIG",
        help="compare with another slice, or with another config (default: no comparison)",
    )
    parser.add_argument(
        "--growth",
        default="",
        metavar="CHIPS,CHIPS,…",
        help="with --topology: what the same run costs on slices of its generation with these numbers of chips "
        "(default: no table)",
    )
    parser.add_argument(
        "--price", type=above_zero, metavar="X", help="price of a chip for one hour (default: no prices)"
    )
    parser.add_argument(
        "--layers",
        type=whole(1),
        nargs="?",
        const=15,
        default=0,
        metavar="N",
        help="list the N layers that take the most time (default: none; N: 15 if left out)",
    )
    parser.add_argument(
        "--picture",
        default="",
        metavar="FILE.png",
        help="draw the time by program and kind of operation (default: no picture)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with an object for each program (default: tables)"
    )
    parser.add_argument(
        "--variant",
        default="",
        metavar="V",
        help="plan this variant or file with a spec, without a config (default: plan the config)",
    )
    parser.add_argument(
        "--sizes",
        metavar="PX,PX,…",
        help="with --variant: image sizes, a training step for each (default: the variant's own)",
    )
    parser.add_argument(
        "--batch-per-chip", type=whole(1), metavar="N", help="with --variant: images per chip (default: 64)"
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), help="with --variant (default: bfloat16)")
    parser.add_argument(
        "--cache",
        default=None,
        metavar="FOLDER",
        help="folder that stores the costs of compiled programs; '' for none (default: ~/.cache/effnetv2_jax/plans)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Plans a config or a variant, and prints tables or JSON."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # leaves this machine's accelerator alone
    jax.config.update("jax_enable_compilation_cache", False)  # it cannot store programs for an absent TPU
    requests = _requests(arguments)
    if arguments.growth:
        return _growth(arguments, *next(iter(requests.values())))
    plans = {name: _plan(arguments, *request) for name, request in requests.items()}
    if arguments.json:
        figures = [
            _figures(arguments, name, plan, program) for name, plan in plans.items() for program in plan.programs
        ]
        print(json.dumps(figures, indent=1, ensure_ascii=False))
    else:
        from effnetv2_jax.cli.tables.plan import print_plans

        print_plans(plans, arguments.price, arguments.layers)
    first = next(iter(plans.values()))
    if arguments.picture and first.fits:
        from effnetv2_jax.analysis.plan_picture import draw_plan

        draw_plan(Path(arguments.picture), first)
        print(f"picture: {arguments.picture}", file=sys.stderr)
    return 0 if all(plan.fits for plan in plans.values()) else 1


def _requests(arguments: argparse.Namespace) -> dict[str, tuple[TrainConfig | None, Topology | None]]:
    """Returns the plans to make, two with --compare: name → config (None with --variant) and slice.

    Raises:
      UsageError: for arguments that exclude or need each other.
    """
    from effnetv2_jax.analysis.topology import parse_topology

    topology = parse_topology(arguments.topology) if arguments.topology else None
    if bool(arguments.config) == bool(arguments.variant):
        raise UsageError("give either --config or --variant")
    if arguments.config and (arguments.sizes or arguments.batch_per_chip or arguments.dtype):
        raise UsageError("--sizes, --batch-per-chip and --dtype go with --variant; with --config, set its fields")
    if topology is None and any(getattr(arguments, name) for name in _WITH_TOPOLOGY):
        raise UsageError(f"{', '.join(f'--{name}' for name in _WITH_TOPOLOGY)} need --topology")
    if arguments.growth and (arguments.compare or arguments.layers):
        raise UsageError("--growth goes without --compare and --layers")
    config = load_config(arguments) if arguments.config else None
    requests = {_name(arguments.config or arguments.variant, topology): (config, topology)}
    if is_config(arguments.compare):
        other = argparse.Namespace(**{**vars(arguments), "config": arguments.compare})
        requests[_name(arguments.compare, topology)] = load_config(other), topology
    elif arguments.compare:
        compared = parse_topology(arguments.compare)
        requests[_name(arguments.config or arguments.variant, compared)] = config, compared
    return requests


def _growth(arguments: argparse.Namespace, config: TrainConfig | None, topology: Topology | None) -> int:
    """Plans a run on slices of several sizes, and prints a table or JSON."""
    from effnetv2_jax.analysis.growth import draw_growth, growth_figures, slices_of
    from effnetv2_jax.cli.tables.plan import print_growth

    assert topology is not None
    try:
        chips = [whole(1)(count) for count in arguments.growth.split(",")]
    except (ValueError, argparse.ArgumentTypeError):
        raise UsageError(f"--growth must be numbers of chips, as in 1,8,64; got {arguments.growth!r}") from None
    plans = [_plan(arguments, config, slice_) for slice_ in slices_of(topology, chips)]
    refused = [plan.topology.name for plan in plans if plan.topology and not plan.fits]
    if refused:
        print(f"effnetv2 plan: the run does not fit {', '.join(refused)}", file=sys.stderr)
        return 1
    rows = growth_figures(plans)
    if arguments.price:
        rows = [row | {"price": arguments.price * row["chip_hours"]} for row in rows]
    title = f"{plans[0].experiment.spec.name} on {topology.chip.name}"
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print_growth(title, rows)
    if arguments.picture:
        draw_growth(Path(arguments.picture), f"{title}, by the TPU compiler's estimates", rows)
        print(f"picture: {arguments.picture}", file=sys.stderr)
    return 0


def _name(what: str, topology: Topology | None) -> str:
    return f"{Path(what).name} {topology.name}" if topology else Path(what).name


def _figures(arguments: argparse.Namespace, name: str, plan: Plan, program: PlannedProgram) -> dict[str, Any]:
    """Returns a program's figures, with the price and the slowest layers if the arguments ask for them."""
    figures = {"plan": name} | plan.figures(program)
    if arguments.price and program.cost:
        figures["price"] = arguments.price * figures["chip_hours"]
    if arguments.layers and program.cost:
        figures["cycles_by_layer"] = dict(program.cost.slowest_layers(arguments.layers))
    return figures


def _plan(arguments: argparse.Namespace, config: TrainConfig | None, topology: Topology | None) -> Plan:
    from effnetv2_jax.analysis.plan import config_of_variant, experiment_on, make_plan, planned_experiment
    from effnetv2_jax.analysis.program_cost import CACHE
    from effnetv2_jax.cli.teacher import load_teacher
    from effnetv2_jax.model.variants import get_spec

    if config is None:
        chips = topology.chips if topology else 1
        sizes = _sizes(arguments.sizes) if arguments.sizes else [get_spec(arguments.variant).train_size]
        dtype = cast("Any", arguments.dtype or "bfloat16")
        config = config_of_variant(arguments.variant, sizes, arguments.batch_per_chip or 64, chips, dtype)
    cache = CACHE if arguments.cache is None else arguments.cache
    teacher = load_teacher(config)
    if topology:
        experiment = experiment_on(config, topology, teacher)
    else:
        experiment = planned_experiment(config, 1, teacher=teacher)
    return make_plan(experiment, topology, cache, lambda text: print(text, file=sys.stderr, flush=True))


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--sizes must be pixels separated by commas, as in 128,192; got {text!r}") from None
    if min(sizes) < 1:
        raise UsageError(f"--sizes must be at least 1, got {text!r}")
    return sizes
