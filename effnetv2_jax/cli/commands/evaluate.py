"""`effnetv2 evaluate`."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import rich.box
import rich.console
import rich.table

from effnetv2_jax.cli.config_file import UsageError, add_config_argument, load_config
from effnetv2_jax.cli.numbers import whole
from effnetv2_jax.cli.processes import add_process_arguments, join_processes
from effnetv2_jax.convert.names import SOURCES
from effnetv2_jax.convert.weights import load_weights
from effnetv2_jax.train.report.progress import make_console

if TYPE_CHECKING:
    from effnetv2_jax.train.config import TrainConfig
    from effnetv2_jax.train.evaluation import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_config_argument(parser)
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("--workdir", help="a run's folder: its latest checkpoint, raw and averaged weights")
    whose.add_argument("--checkpoint", metavar="P", help="weights of any framework, with the preprocessing of theirs")
    parser.add_argument("--source", choices=SOURCES, default="flax", help="whose file the checkpoint is")
    parser.add_argument("--step", type=whole(1), help="with --workdir: the checkpoint of this step")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_process_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates, and prints a table or JSON."""
    if arguments.step is not None and not arguments.workdir:
        raise UsageError("--step goes with --workdir")
    config = load_config(arguments)
    join_processes(arguments)
    if arguments.workdir:
        from effnetv2_jax.train.evaluator import evaluate_run

        results = evaluate_run(config, arguments.workdir, arguments.step)
    else:
        results = _evaluate_foreign(config, arguments.checkpoint, arguments.source)
    from effnetv2_jax.train.run.processes import is_first

    if not is_first():
        return 0
    print(json.dumps(results)) if arguments.json else make_console().print(_table(results))
    return 0


def _evaluate_foreign(config: TrainConfig, path: str, source: Any) -> Results:
    """Evaluates a file's weights with their own network and preprocessing; averaged and raw ones where it has both."""
    from effnetv2_jax.train.evaluator import evaluate_weights

    both = {
        name: load_weights(path, source=source, moving_average=average, variant=_spec(config, source))
        for name, average in (("averaged", True), ("raw", False))
    }
    first = both["averaged"]
    if both["raw"].provenance.averaging == first.provenance.averaging:
        both = {first.provenance.averaging: first}
    facts = first.provenance
    preprocessing = facts.preprocessing or config.data.preprocessing
    data = dataclasses.replace(config.data, preprocessing=preprocessing, eval_crop=facts.eval_crop)
    evaluation = dataclasses.replace(config.evaluation, image_size=config.evaluation.image_size or facts.eval_size)
    config = dataclasses.replace(config, data=data, evaluation=evaluation)
    return evaluate_weights(config, first.model(), {name: weights.variables for name, weights in both.items()})


def _spec(config: TrainConfig, source: str) -> Any:
    """Returns the config's architecture for files that do not say theirs."""
    return None if source == "flax" else config.model.spec()


def _table(results: Results) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ("weights", "top-1, %", "top-5, %", "loss", "images"):
        table.add_column(name, justify="left" if name == "weights" else "right")
    for name, values in results.items():
        numbers = (f"{values['top1']:.2f}", f"{values['top5']:.2f}", f"{values['loss']:.4f}", f"{values['count']:,.0f}")
        table.add_row(name, *numbers)
    return table
