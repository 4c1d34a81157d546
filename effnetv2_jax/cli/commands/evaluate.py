"""`effnetv2 evaluate`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import rich.box
import rich.table

from effnetv2_jax.cli.config_file import UsageError, add_config_argument, load_config, named_fields, with_overrides
from effnetv2_jax.cli.framework_option import add_framework_argument
from effnetv2_jax.cli.numbers import whole
from effnetv2_jax.cli.process_options import add_process_arguments, join_processes
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.train.report.console import make_console

if TYPE_CHECKING:
    from effnetv2_jax.convert.frameworks.table import FrameworkName
    from effnetv2_jax.train.config import TrainConfig
    from effnetv2_jax.train.recipe.eval_step import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config_argument(parser, default="the config that the run folder records", required=False)
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--workdir", help="run folder: evaluate the raw and averaged weights of its latest checkpoint")
    weights.add_argument(
        "--checkpoint",
        metavar="P",
        help="weights of any framework: a file or a folder, local, gs://… or hf://…, or the name of published weights",
    )
    add_framework_argument(parser)
    parser.add_argument("--step", type=whole(0), help="with --workdir: evaluate the checkpoint of this step")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_process_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, and prints a table or JSON."""
    if arguments.step is not None and not arguments.workdir:
        raise UsageError("--step goes with --workdir")
    if arguments.framework is not None and arguments.workdir:
        raise UsageError("--framework goes with --checkpoint")
    config = _config(arguments)
    join_processes(arguments)
    if arguments.workdir:
        from effnetv2_jax.train.evaluation import evaluate_run

        results = evaluate_run(config, arguments.workdir, arguments.step)
    else:
        results = _evaluate_checkpoint(config, arguments)
    from effnetv2_jax.train.run.processes import is_first

    if not is_first():
        return 0
    print(json.dumps(results)) if arguments.json else make_console().print(_table(results))
    return 0


def _config(arguments: argparse.Namespace) -> TrainConfig:
    """Returns the config of `--config`, or else the one that the run folder records."""
    if arguments.config:
        return load_config(arguments)
    if not arguments.workdir:
        raise UsageError("--checkpoint needs --config, which names the data to evaluate on")
    from effnetv2_jax.train.evaluation import run_config

    return with_overrides(run_config(arguments.workdir), arguments)


def _evaluate_checkpoint(config: TrainConfig, arguments: argparse.Namespace) -> Results:
    """Evaluates the averaged and the raw weights, as far as they exist, with their own network and preprocessing.

    A field of the preprocessing that the command line names replaces the weights' own.
    """
    from effnetv2_jax.train.evaluation import evaluate_weights

    framework: FrameworkName | None = arguments.framework
    both = {
        name: load_weights(
            arguments.checkpoint,
            framework=framework,
            moving_average=average,
            default_variant=config.model.spec(),
        )
        for name, average in (("averaged", True), ("raw", False))
    }
    first = both["averaged"]
    provenance = first.provenance
    if both["raw"].provenance.averaging == provenance.averaging:
        both = {provenance.averaging: first}
    own = {"preprocessing": provenance.preprocessing or config.data.preprocessing, "eval_crop": provenance.eval_crop}
    named = named_fields(arguments)
    replaced: dict[str, Any] = {name: value for name, value in own.items() if f"data.{name}" not in named}
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **replaced),
        evaluation=dataclasses.replace(
            config.evaluation, image_size=config.evaluation.image_size or provenance.eval_size
        ),
    )
    return evaluate_weights(config, first.model(), {name: weights.variables for name, weights in both.items()})


def _table(results: Results) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ("weights", "top-1, %", "top-5, %", "loss", "images"):
        table.add_column(name, justify="left" if name == "weights" else "right")
    for name, values in results.items():
        numbers = (f"{values['top1']:.2f}", f"{values['top5']:.2f}", f"{values['loss']:.4f}", f"{values['count']:,.0f}")
        table.add_row(name, *numbers)
    return table
