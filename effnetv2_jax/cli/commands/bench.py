"""`effnetv2 bench`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.cli.options.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.cli.options.numbers import above_zero, whole
from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.cli.terminal.progress_line import progress_line
from effnetv2_jax.cli.terminal.quiet_libraries import import_tensorflow_with_onednn
from effnetv2_jax.cli.weights_table import (
    add_weights_table_arguments,
    check_weights_table_arguments,
    print_weights_table,
)

if TYPE_CHECKING:
    from effnetv2_jax.train.experiment import Experiment
    from effnetv2_jax.train.recipe.progressive import Stage

# By the TPU compiler's estimates, training steps of these networks reach a fraction of a TPU's peak in this range.
_PEAK_FRACTIONS = (0.18, 0.40)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config_argument(parser, default="none, which --exports and --pretrained allow", required=False)
    parser.add_argument(
        "--exports",
        nargs="+",
        type=Path,
        metavar="OUT",
        help="time programs that `effnetv2 export` wrote, in their runtimes, and nothing else (default: none)",
    )
    parser.add_argument(
        "--batch",
        type=whole(1),
        default=8,
        metavar="N",
        help="with --exports: images in a batch for the throughput (default: 8)",
    )
    parser.add_argument(
        "--seconds",
        type=above_zero,
        default=3.0,
        metavar="S",
        help="with --exports: how long to time each batch size (default: 3)",
    )
    parser.add_argument("--input", action="store_true", help="time the input pipeline only (default: both)")
    parser.add_argument("--step", action="store_true", help="time the training step only (default: both)")
    parser.add_argument(
        "--checkpoint", action="store_true", help="time saving and restoring the state, and nothing else (default: no)"
    )
    parser.add_argument(
        "--generated",
        action="store_true",
        help="compare the input pipeline with a re-creation of the official one, on generated JPEGs (default: no)",
    )
    parser.add_argument(
        "--accelerator",
        default="v5e-8",
        metavar="TPU",
        help="TPU slice to compute the required host cores for (default: v5e-8)",
    )
    parser.add_argument(
        "--threads", type=whole(1), metavar="N", help="with --generated: threads of each pipeline (default: 1)"
    )
    parser.add_argument(
        "--images", type=whole(1), default=512, metavar="N", help="images to time at each stage (default: 512)"
    )
    parser.add_argument(
        "--steps",
        type=whole(1),
        default=5,
        metavar="N",
        help="training steps to time at each stage, or checkpoints (default: 5)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with an object for each row of the table (default: a table)"
    )
    add_weights_table_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Times each stage and prints a table, or JSON."""
    check_weights_table_arguments(arguments)
    if sum(map(bool, (arguments.config and not arguments.pretrained, arguments.exports, arguments.pretrained))) != 1:
        raise UsageError(
            "give one of --config, to time a training, --exports, to time exported programs, and --pretrained, for a "
            "table of weights"
        )
    if arguments.exports:
        from effnetv2_jax.cli.export_timing import time_exports

        return time_exports(arguments.exports, arguments.batch, arguments.seconds, json_output=arguments.json)
    if arguments.pretrained:
        return print_weights_table(arguments)
    if arguments.threads and not arguments.generated:
        raise UsageError("--threads goes with --generated; for a data set, set --config.data.threads")
    if arguments.generated and arguments.step and not arguments.input:
        raise UsageError("--generated is for the input pipeline: add --input, or leave out --step")
    if arguments.checkpoint and (arguments.input or arguments.step or arguments.generated):
        raise UsageError("--checkpoint goes without --input, --step and --generated")
    if arguments.generated:
        import_tensorflow_with_onednn()
    import jax

    from effnetv2_jax.analysis.plan import planned_experiment
    from effnetv2_jax.cli.teacher import load_teacher
    from effnetv2_jax.train.devices.chips import device_name
    from effnetv2_jax.train.report.console import make_console

    parse_topology(arguments.accelerator)  # refuses a wrong name before minutes of timing
    config, device = load_config(arguments), device_name(jax.devices()[0])
    experiment = planned_experiment(config, jax.device_count(), device, teacher=load_teacher(config))
    if arguments.checkpoint:
        return _time_checkpoints(arguments, experiment)
    with progress_line() as show:
        figures = [_stage_figures(arguments, experiment, stage, show) for stage in experiment.stages]
    console = make_console()
    if arguments.json:
        print(json.dumps(figures, indent=1))
    else:
        console.print(make_table(figures, _COLUMNS))
        for line in (*_settings(figures), *experiment.tuning_lines()):
            console.print(line)
        console.print(_caption(arguments), soft_wrap=True)
    return 0


def _time_checkpoints(arguments: argparse.Namespace, experiment: Experiment) -> int:
    """Times saving and restoring the state, and prints a table or JSON."""
    from effnetv2_jax.analysis.benchmarks.checkpoint_benchmark import checkpoint_speed
    from effnetv2_jax.train.report.console import make_console

    with progress_line() as show:
        figures = checkpoint_speed(experiment, arguments.steps, show)
    if arguments.json:
        print(json.dumps(figures, indent=1))
    else:
        make_console().print(make_table([figures], _CHECKPOINT_COLUMNS, f"{experiment.spec.name}, medians"))
    return 0


def _stage_figures(
    arguments: argparse.Namespace, experiment: Experiment, stage: Stage, show: Callable[[str], None]
) -> dict[str, Any]:
    def report(text: str) -> None:
        show(f"stage {stage.index + 1} of {len(experiment.stages)} ({stage.image_size} px): {text}")

    both = not (arguments.input or arguments.step)
    figures: dict[str, Any] = {
        "stage": stage.index + 1,
        "image_size": stage.image_size,
        "magnitude": stage.magnitude,
    }
    if both or arguments.input:
        figures |= _input_figures(arguments, experiment, stage, report)
    if both or arguments.step:
        from effnetv2_jax.analysis.benchmarks.step_benchmark import step_speed

        speed = step_speed(experiment, stage, arguments.steps, report)
        figures |= {
            "accumulation_steps": speed.microbatches,
            "compiler_options": dict(speed.compiler_options),
            "refused_options": list(speed.refused_options),
            "compile_seconds": speed.compile_seconds,
            "step_seconds": speed.step_seconds,
            "step_images_per_second": speed.images_per_second,
        }
    if both:
        limit = "input" if figures["input_images_per_second"] < figures["step_images_per_second"] else "step"
        figures["limited_by"] = limit
    return figures


def _input_figures(
    arguments: argparse.Namespace, experiment: Experiment, stage: Stage, report: Callable[[str], None]
) -> dict[str, Any]:
    from effnetv2_jax.analysis.benchmarks.input_benchmark import (
        dataset_rate,
        generated_comparison,
        needed_images_per_second,
    )

    official: dict[str, Any] = {}
    if arguments.generated:
        comparison = generated_comparison(experiment, stage, arguments.threads or 1, arguments.images, report)
        rate = comparison.ours
        official = {"official_images_per_cpu_second": comparison.official.per_cpu_second, "ratio": comparison.ratio}
    else:
        rate = dataset_rate(experiment, stage, arguments.images, report)
    slice_ = parse_topology(arguments.accelerator)
    needed = [needed_images_per_second(experiment, stage, slice_, fraction) for fraction in _PEAK_FRACTIONS]
    return {
        "input_images_per_second": rate.per_second,
        "input_images_per_cpu_second": rate.per_cpu_second,
        **official,
        "host_cores": [need / rate.per_cpu_second for need in needed],
    }


# Column title → the key of a stage's figures, and its format.
_CHECKPOINT_COLUMNS: Columns = {
    "state MB": ("state_bytes", "{:,.0f}", 1e-6),
    "blocks the loop ms": ("blocked_seconds", "{:,.0f}", 1e3),
    "copy on the device ms": ("copy_seconds", "{:,.0f}", 1e3),
    "written s": ("save_seconds", "{:.2f}"),
    "restored and verified s": ("restore_seconds", "{:.2f}"),
}
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


def _settings(figures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields a line about the compiler's options of each stage that has any."""
    for row in figures:
        for name, value in row.get("compiler_options", {}).items():
            yield f"stage {row['stage']}: compiled with {name}={value}"
        for name in row.get("refused_options", ()):
            yield f"warning: this compiler does not know {name}; stage {row['stage']} is compiled without it"


def _caption(arguments: argparse.Namespace) -> str:
    low, high = (f"{fraction:.0%}" for fraction in _PEAK_FRACTIONS)
    return f"host cores: the number that {arguments.accelerator} needs if its steps reach {low}–{high} of its peak"
