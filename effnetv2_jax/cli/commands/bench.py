"""`effnetv2 bench`."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.cli.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.cli.numbers import whole
from effnetv2_jax.cli.tables import Columns, make_table

if TYPE_CHECKING:
    from effnetv2_jax.train.experiment import Experiment
    from effnetv2_jax.train.recipe.progressive import Stage

# The shares of a TPU's peak between which training steps of these networks lie, by the TPU compiler's estimates.
_SHARES_OF_PEAK = (0.18, 0.40)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config_argument(parser)
    parser.add_argument("--input", action="store_true", help="the input pipeline alone (default: both)")
    parser.add_argument("--step", action="store_true", help="the training step alone (default: both)")
    parser.add_argument("--generated", action="store_true", help="generated JPEGs, and the official way beside ours")
    parser.add_argument("--accelerator", default="v5e-8", help="the TPU whose need of host cores is told")
    parser.add_argument("--threads", type=whole(1), help="of either pipeline with --generated (default: 1)")
    parser.add_argument("--images", type=whole(1), default=512, help="images timed a stage")
    parser.add_argument("--steps", type=whole(1), default=5, help="training steps timed a stage")
    parser.add_argument("--json", action="store_true", help="print JSON, an object a stage")


def run(arguments: argparse.Namespace) -> int:
    """Times each stage, and prints a table or JSON."""
    if arguments.threads and not arguments.generated:
        raise UsageError("--threads goes with --generated; for a data set it is --config.data.threads")
    if arguments.generated and arguments.step and not arguments.input:
        raise UsageError("--generated is for the input pipeline: give --input, or leave out --step")
    if arguments.generated:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # TensorFlow's default, which the official way has a right to
    import jax

    from effnetv2_jax.analysis.plan import planned_experiment
    from effnetv2_jax.train.report.progress import make_console

    parse_topology(arguments.accelerator)  # a wrong name is said before minutes of timing
    experiment = planned_experiment(load_config(arguments), jax.device_count())
    rows = [_stage_row(arguments, experiment, stage) for stage in experiment.stages]
    console = make_console()
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        console.print(make_table(rows, _COLUMNS))
        console.print(_caption(arguments), soft_wrap=True)
    return 0


def _stage_row(arguments: argparse.Namespace, experiment: Experiment, stage: Stage) -> dict[str, Any]:
    both = not (arguments.input or arguments.step)
    row: dict[str, Any] = {"stage": stage.index + 1, "image_size": stage.image_size, "magnitude": stage.magnitude}
    if both or arguments.input:
        row |= _input_row(arguments, experiment, stage)
    if both or arguments.step:
        from effnetv2_jax.analysis.benchmarks.step_benchmark import step_speed

        speed = step_speed(experiment, stage, arguments.steps)
        row |= {
            "accumulation_steps": speed.microbatches,
            "compile_seconds": speed.compile_seconds,
            "step_seconds": speed.step_seconds,
            "step_images_per_second": speed.images_per_second,
        }
    if both:
        limit = "input" if row["input_images_per_second"] < row["step_images_per_second"] else "step"
        row["limited_by"] = limit
    return row


def _input_row(arguments: argparse.Namespace, experiment: Experiment, stage: Stage) -> dict[str, Any]:
    from effnetv2_jax.analysis.benchmarks.step_benchmark import (
        data_set_rate,
        generated_comparison,
        needed_images_per_second,
    )

    row: dict[str, Any] = {}
    if arguments.generated:
        comparison = generated_comparison(experiment, stage, arguments.threads or 1, arguments.images)
        rate = comparison.ours
        row |= {"official_images_per_cpu_second": comparison.official.per_cpu_second, "ratio": comparison.ratio}
    else:
        rate = data_set_rate(experiment, stage, arguments.images)
    slice_ = parse_topology(arguments.accelerator)
    needed = [needed_images_per_second(experiment, stage, slice_, share) for share in _SHARES_OF_PEAK]
    return {
        "input_images_per_second": rate.per_second,
        "input_images_per_cpu_second": rate.per_cpu_second,
        **row,
        "host_cores": [need / rate.per_cpu_second for need in needed],
    }


# A column's title → the row's key and how it is written.
_COLUMNS: Columns = {
    "stage": ("stage", "{}"),
    "px": ("image_size", "{}"),
    "magnitude": ("magnitude", "{:.3g}"),
    "input, images/s": ("input_images_per_second", "{:,.0f}"),
    "per CPU s": ("input_images_per_cpu_second", "{:,.0f}"),
    "official": ("official_images_per_cpu_second", "{:,.0f}"),
    "ratio": ("ratio", "{:.2f}"),
    "host cores": ("host_cores", "{0[0]:,.0f}–{0[1]:,.0f}"),
    "microbatches": ("accumulation_steps", "{}"),
    "compile, s": ("compile_seconds", "{:.1f}"),
    "step, s": ("step_seconds", "{:.3f}"),
    "images/s": ("step_images_per_second", "{:,.0f}"),
    "limit": ("limited_by", "{}"),
}


def _caption(arguments: argparse.Namespace) -> str:
    low, high = (f"{share:.0%}" for share in _SHARES_OF_PEAK)
    return f"host cores: what {arguments.accelerator} needs in all if its steps reach {low}–{high} of the chips' peak"
