"""`effnetv2 scale`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from effnetv2_jax.cli.options.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.cli.options.numbers import above_zero, whole
from effnetv2_jax.model.scaling import LARGEST_PHI, largest_phi, layers_of, scale_spec
from effnetv2_jax.model.spec_file import SUFFIX, plain_name, write_spec
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.summary import count_multiply_adds, count_parameters
from effnetv2_jax.model.variants import get_spec

_CLASSES = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("variant", help="the variant or file with a spec to scale")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument(
        "--parameters", nargs="+", type=above_zero, metavar="N", help="at most so many parameters, as in 54e6"
    )
    budget.add_argument(
        "--multiply-adds",
        nargs="+",
        type=above_zero,
        metavar="N",
        help="at most so many multiply-adds for one evaluation image, as in 24e9",
    )
    budget.add_argument(
        "--step-ms",
        nargs="+",
        type=above_zero,
        metavar="MS",
        help="at most so many milliseconds for a training step, see --topology",
    )
    budget.add_argument(
        "--like", nargs="+", metavar="V", help="as many parameters as these variants; shows how they differ"
    )
    budget.add_argument(
        "--phi", nargs="+", type=_phi, metavar="F", help=f"the scaling coefficient itself, up to {LARGEST_PHI:g}"
    )
    parser.add_argument(
        "--topology",
        default="",
        metavar="TPU",
        help="with --step-ms: estimate the step for this TPU slice (default: time it on the devices of this machine)",
    )
    parser.add_argument(
        "--batch-per-chip",
        type=whole(1),
        metavar="N",
        help="with --step-ms: images a chip (default: 64, or those of --config)",
    )
    add_config_argument(parser, default="with --step-ms: a step at the network's own size, in bfloat16", required=False)
    parser.add_argument(
        "--out", metavar="FOLDER", help="write each network as a spec into this folder (default: no files)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with an object for each network (default: tables)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Scales a network to each budget, writes the specs, and prints tables or JSON."""
    base = get_spec(arguments.variant)
    if arguments.topology and not arguments.step_ms:
        raise UsageError("--topology goes with --step-ms")
    if arguments.config and (arguments.batch_per_chip or not arguments.step_ms):
        raise UsageError("--config goes with --step-ms and without --batch-per-chip")
    if arguments.overrides and not arguments.config:
        raise UsageError(f"{arguments.overrides[0]} goes with --config")
    alike = [get_spec(name) for name in arguments.like or ()]
    step_ms = _step_ms(arguments) if arguments.step_ms else None
    phis = _phis(arguments, base, alike, step_ms)
    networks = [base, *(scale_spec(base, phi) for phi in phis)]
    rows = [_figures(spec, phi, step_ms) for spec, phi in zip(networks, [0.0, *phis], strict=True)]
    if arguments.out:
        for row, spec, phi in zip(rows[1:], networks[1:], phis, strict=True):
            row["file"] = str(Path(arguments.out) / _file_name(base, phi))
            write_spec(row["file"], spec)
    if arguments.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        from effnetv2_jax.cli.tables.scale import print_networks

        print_networks(base, networks[1:], alike, rows)
    for row in rows[1:]:
        if "file" in row:
            print(f"use it with --config.model.variant={row['file']}", file=sys.stderr)
    return 0


def _phis(
    arguments: argparse.Namespace,
    base: ModelSpec,
    alike: Sequence[ModelSpec],
    step_ms: Callable[[ModelSpec], float] | None,
) -> list[float]:
    """Returns the scaling coefficient for each budget."""
    if arguments.phi:
        return list(arguments.phi)
    if step_ms:
        return [largest_phi(base, step_ms, budget, what="the milliseconds") for budget in arguments.step_ms]
    if arguments.multiply_adds:
        return [
            largest_phi(base, _multiply_adds, budget, what="the multiply-adds") for budget in arguments.multiply_adds
        ]
    budgets = arguments.parameters or [count_parameters(spec, _CLASSES) for spec in alike]
    return [largest_phi(base, count_parameters, budget, what="the parameters") for budget in budgets]


def _multiply_adds(spec: ModelSpec) -> float:
    return count_multiply_adds(spec, spec.eval_size, _CLASSES)


def _step_ms(arguments: argparse.Namespace) -> Callable[[ModelSpec], float]:
    """Returns what gives the milliseconds of a network's training step, computed once for each.

    With a config, it is the step of the config's last stage, and otherwise one at the network's own size.
    """
    import functools

    import jax

    from effnetv2_jax.analysis.benchmarks.timed_step import timed_step
    from effnetv2_jax.analysis.plan import config_of_variant, planned_experiment
    from effnetv2_jax.analysis.row_sum import RowSum
    from effnetv2_jax.analysis.topology import parse_topology

    topology = parse_topology(arguments.topology) if arguments.topology else None
    if topology:
        jax.config.update("jax_platforms", "cpu")  # leaves this machine's accelerator alone
        jax.config.update("jax_enable_compilation_cache", False)  # it cannot store programs for an absent TPU
    chips = topology.chips if topology else jax.device_count()
    given = load_config(arguments) if arguments.config else None
    devices = topology.devices if topology else chips
    last_size = planned_experiment(given, devices).stages[-1].image_size if given else 0

    @functools.cache
    def sums(size: int) -> RowSum:
        assert topology is not None
        return RowSum(_config(size), size, topology)

    def _config(size: int) -> Any:
        images = arguments.batch_per_chip or 64
        return given or config_of_variant("efficientnetv2-b0", [size], images, chips, "bfloat16")

    @functools.cache
    def milliseconds(spec: ModelSpec) -> float:
        size = last_size or spec.train_size
        seconds = sums(size).seconds(spec) if topology else timed_step(_config(size), spec, size)
        print(f"{spec.name}: {1e3 * seconds:.4g} ms at {size} px", file=sys.stderr, flush=True)
        return 1e3 * seconds

    return milliseconds


def _figures(spec: ModelSpec, phi: float, step_ms: Callable[[ModelSpec], float] | None) -> dict[str, Any]:
    figures = {
        "network": spec.name,
        "phi": phi,
        "parameters": count_parameters(spec, _CLASSES),
        "multiply_adds": count_multiply_adds(spec, spec.eval_size, _CLASSES),
        "layers": layers_of(spec),
        "features": [spec.features(row.features) for row in spec.rows],
        "train_size": spec.train_size,
        "eval_size": spec.eval_size,
        "dropout_rate": spec.dropout_rate,
    }
    return figures | ({"step_ms": step_ms(spec)} if step_ms else {})


def _file_name(base: ModelSpec, phi: float) -> str:
    return f"{plain_name(base.name)}_phi{phi:.2f}{SUFFIX}"


def _phi(text: str) -> float:
    phi = above_zero(text)
    if phi > LARGEST_PHI:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {LARGEST_PHI:g}")
    return phi
