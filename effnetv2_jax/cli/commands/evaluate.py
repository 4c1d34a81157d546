"""`effnetv2 evaluate`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rich.box
import rich.table
from etils import epath

from effnetv2_jax.cli.options.config_file import (
    UsageError,
    add_config_argument,
    load_config,
    named_fields,
    with_overrides,
)
from effnetv2_jax.cli.options.evaluation import EVALUATION_OPTIONS, add_evaluation_arguments
from effnetv2_jax.cli.options.evaluation_request import requested
from effnetv2_jax.cli.options.framework import add_framework_argument
from effnetv2_jax.cli.options.numbers import whole
from effnetv2_jax.cli.options.processes import add_process_arguments, join_processes
from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.paths import absolute
from effnetv2_jax.train.report.console import make_console
from effnetv2_jax.whole_file import make_parent

if TYPE_CHECKING:
    from effnetv2_jax.convert.frameworks.table import FrameworkName
    from effnetv2_jax.evaluate.suite import Evaluation
    from effnetv2_jax.train.config import TrainConfig
    from effnetv2_jax.train.recipe.eval_step import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config_argument(parser, default="the config that the run folder records", required=False)
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--workdir", help="run folder: evaluate the raw and averaged weights of its latest checkpoint")
    weights.add_argument(
        "--checkpoint",
        nargs="+",
        metavar="P",
        help="weights of any framework: files or folders, local, gs://… or hf://…, or names of published weights",
    )
    add_framework_argument(parser)
    parser.add_argument(
        "--step", type=whole(0), help="with --workdir: evaluate the checkpoint of this step (default: the latest)"
    )
    add_evaluation_arguments(parser)
    parser.add_argument(
        "--predictions",
        metavar="FILE",
        help="write a row for each image to this .parquet or .csv file (default: no file)",
    )
    parser.add_argument(
        "--report",
        metavar="FOLDER",
        help="write results.json, and for each evaluation a table of its classes and pictures of its calibration, of "
        "confused classes and of mistakes (default: no report)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (default: a table)")
    add_process_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, and prints a table or JSON."""
    if arguments.step is not None and not arguments.workdir:
        raise UsageError("--step goes with --workdir")
    if arguments.framework is not None and arguments.workdir:
        raise UsageError("--framework goes with --checkpoint")
    if _asks_for_more(arguments):
        return _evaluate_images(arguments)
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


# Options that need results for each image, or more than the evaluation of a run does.
_MORE = (*EVALUATION_OPTIONS, "predictions", "report")


def _asks_for_more(arguments: argparse.Namespace) -> bool:
    """Returns whether the command asks for more than top-1, top-5 and loss of one run or file on a config's data."""
    return (
        any(getattr(arguments, name) for name in _MORE)
        or arguments.classes != "all"
        or len(arguments.checkpoint or ()) > 1
    )


def _evaluate_images(arguments: argparse.Namespace) -> int:
    """Evaluates with a result for each image, writes what is asked for, and prints a table or JSON."""
    from effnetv2_jax.evaluate.report.files import write_reports
    from effnetv2_jax.evaluate.report.predictions_file import check_predictions_path, write_predictions
    from effnetv2_jax.train.run.processes import is_first, share_first_error

    if arguments.predictions:
        try:
            check_predictions_path(arguments.predictions)
        except ValueError as error:
            raise UsageError(f"--predictions: {error}") from error
        make_parent(arguments.predictions)
    join_processes(arguments)
    request = requested(arguments, _checkpoints(arguments))
    evaluations = list(request.evaluations())
    if arguments.predictions:
        share_first_error(lambda: write_predictions(arguments.predictions, evaluations))
    if arguments.report:
        share_first_error(lambda: write_reports(absolute(arguments.report), evaluations))
    if is_first():
        _print_rows(evaluations, as_json=arguments.json)
    return 0


def _checkpoints(arguments: argparse.Namespace) -> list[str]:
    """Returns the weights that are asked for; a step of a run is the folder of its checkpoint."""
    if not arguments.workdir:
        return list(arguments.checkpoint)
    step = [] if arguments.step is None else ["checkpoints", str(arguments.step)]
    return [str(epath.Path(arguments.workdir, *step))]


def _print_rows(evaluations: Sequence[Evaluation], *, as_json: bool) -> None:
    rows = [evaluation.row() for evaluation in evaluations]
    if as_json:
        print(json.dumps(rows))
        return
    make_console().print(make_table(rows, _COLUMNS))
    for note in dict.fromkeys(evaluation.classes.note for evaluation in evaluations if evaluation.classes.note):
        print(f"note: {note}", file=sys.stderr)


_COLUMNS: Columns = {
    "checkpoint": ("checkpoint", "{}"),
    "weights": ("weights", "{}"),
    "data": ("data", "{}"),
    "px": ("image_size", "{}"),
    "crop": ("crop", "{}"),
    "classes": ("classes", "{:,}"),
    "top-1, %": ("top1", "{:.2f}"),
    "top-5, %": ("top5", "{:.2f}"),
    "loss": ("loss", "{:.4f}"),
    "ECE, %": ("ece", "{:.2f}"),
    "images": ("count", "{:,}"),
}


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
            arguments.checkpoint[0],
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
