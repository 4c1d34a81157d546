"""`effnetv2 bench --pretrained`: a table of weights with their cost, their speed on this machine and their accuracy."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from effnetv2_jax.cli.options.config_file import UsageError
from effnetv2_jax.cli.options.evaluation import EVALUATION_OPTIONS, add_evaluation_arguments
from effnetv2_jax.cli.options.evaluation_request import requested
from effnetv2_jax.cli.options.framework import add_framework_argument
from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.cli.terminal.progress_line import progress_line
from effnetv2_jax.paths import absolute
from effnetv2_jax.train.report.console import make_console
from effnetv2_jax.whole_file import make_parent, write_whole


def add_weights_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares `--pretrained`, and the options that go with it."""
    group: Any = parser.add_argument_group(
        "a table of weights", "The cost of networks, their speed on this machine, and their accuracy if data is given."
    )
    group.add_argument(
        "--pretrained",
        nargs="+",
        metavar="P",
        help="weights: run folders, or files or folders of any framework; the averaged weights of each "
        "(default: no table)",
    )
    group.add_argument("--csv", metavar="FILE", help="write the table to this file (default: only print it)")
    add_framework_argument(group)
    add_evaluation_arguments(group)


def check_weights_table_arguments(arguments: argparse.Namespace) -> None:
    """Raises UsageError for options of the table without `--pretrained`, and of other benchmarks with it."""
    others = [name for name in ("input", "step", "checkpoint", "generated") if getattr(arguments, name)]
    own = [name for name in (*EVALUATION_OPTIONS, "csv", "framework") if getattr(arguments, name)]
    if arguments.pretrained and others:
        raise UsageError(f"--pretrained goes without --{others[0]}")
    if own and not arguments.pretrained:
        raise UsageError(f"--{own[0].replace('_', '-')} goes with --pretrained")
    if arguments.csv and not arguments.csv.endswith(".csv"):
        raise UsageError(f"--csv: {arguments.csv} must be a .csv file")


def print_weights_table(arguments: argparse.Namespace) -> int:
    """Times and evaluates the weights, and prints a table or JSON."""
    from effnetv2_jax.evaluate.report.files import as_csv
    from effnetv2_jax.evaluate.report.table import result_rows

    if arguments.csv:
        make_parent(arguments.csv)
    request = requested(arguments, arguments.pretrained, averaged=True, data_needed=False)
    evaluations = list(request.evaluations())
    with progress_line() as show:
        rows = list(
            result_rows(
                request.candidates,
                request.views,
                evaluations,
                batch_size=request.batch_size,
                steps=arguments.steps,
                report=show,
            )
        )
    rows.sort(key=lambda row: -row.get("top1", math.inf))
    if arguments.csv:
        write_whole(absolute(arguments.csv), as_csv(_same_columns(rows)))
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        make_console().print(make_table(rows, _COLUMNS))
    return 0


def _same_columns(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in names} for row in rows]


_COLUMNS: Columns = {
    "checkpoint": ("checkpoint", "{}"),
    "parameters": ("parameters", "{:,.2f} M", 1e-6),
    "adds": ("multiply_adds", "{:,.3f} G", 1e-9),
    "MB": ("megabytes", "{:,.1f}"),
    "px": ("image_size", "{}"),
    "images/s": ("images_per_second", "{:,.1f}"),
    "data": ("data", "{}"),
    "top-1, %": ("top1", "{:.2f}"),
    "top-5, %": ("top5", "{:.2f}"),
}
