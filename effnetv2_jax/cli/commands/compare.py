"""`effnetv2 compare`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from effnetv2_jax.cli.options.config_file import UsageError, add_config_argument
from effnetv2_jax.cli.options.evaluation import add_evaluation_arguments
from effnetv2_jax.cli.options.evaluation_request import requested
from effnetv2_jax.cli.options.framework import add_framework_argument
from effnetv2_jax.cli.options.processes import add_process_arguments, join_processes
from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.cli.terminal.printable_line import printable_line
from effnetv2_jax.paths import absolute
from effnetv2_jax.train.report.console import make_console
from effnetv2_jax.whole_file import make_parent, write_whole

if TYPE_CHECKING:
    from effnetv2_jax.evaluate.comparison import Comparison
    from effnetv2_jax.evaluate.suite import Evaluation

_SHOWN = 10
_DRAWN = 36


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("first", metavar="A", help="weights: a run folder, or a file or folder of any framework")
    parser.add_argument("second", metavar="B", help="other weights")
    add_config_argument(parser, default="the data of --data", required=False)
    add_framework_argument(parser)
    parser.add_argument("--raw", action="store_true", help="compare the raw weights (default: the averaged ones)")
    add_evaluation_arguments(parser, several=False)
    parser.add_argument(
        "--differences",
        metavar="FILE.CSV",
        help="write a row for each image that only one of them gets right (default: no file)",
    )
    parser.add_argument("--picture", metavar="FILE.PNG", help="draw the surest of these mistakes (default: no picture)")
    parser.add_argument("--json", action="store_true", help="print JSON (default: a table)")
    add_process_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates both weights on the same images, and prints where they agree."""
    for option, suffix in (("differences", ".csv"), ("picture", ".png")):
        path = getattr(arguments, option)
        if path and not path.lower().endswith(suffix):
            raise UsageError(f"--{option}: {path} must be a {suffix} file")
        if path:
            make_parent(path)
    from effnetv2_jax.evaluate.comparison import compare, difference_rows
    from effnetv2_jax.train.run.processes import is_first, share_first_error

    join_processes(arguments)
    first, second = _evaluations(arguments)
    comparison = compare(first, second)
    rows = difference_rows(comparison, first, second)
    share_first_error(lambda: _write(arguments, rows, first))
    if is_first():
        _show(arguments, comparison, rows, (first, second))
    return 0


def _evaluations(arguments: argparse.Namespace) -> tuple[Evaluation, Evaluation]:
    request = requested(arguments, (arguments.first, arguments.second), averaged=not arguments.raw)
    if len(request.views.sizes) > 1:
        raise UsageError("--sizes must be a single size, as in --sizes 224")
    found = {id(evaluation.candidate): evaluation for evaluation in request.evaluations()}
    first, second = (found[id(candidate)] for candidate in request.candidates)
    return first, second


def _write(arguments: argparse.Namespace, rows: Sequence[Mapping[str, Any]], first: Evaluation) -> None:
    """Writes the table and the picture of the images that only one of the weights gets right."""
    from effnetv2_jax.evaluate.images.stored_images import stored_images
    from effnetv2_jax.evaluate.report.files import as_csv
    from effnetv2_jax.evaluate.report.pictures import draw_page, mistake_caption

    if arguments.differences:
        write_whole(absolute(arguments.differences), as_csv(rows))
    if arguments.picture:
        halves = [[row for row in rows if row["right"] == side][: _DRAWN // 2] for side in ("first", "second")]
        shown = [*halves[0], *halves[1]]
        images = stored_images(first.data, [row["image"].encode() for row in shown])
        captions = []
        for row in shown:
            wrong, whose = ("second", "B") if row["right"] == "first" else ("first", "A")
            captions.append(mistake_caption(row["labels"], row[wrong], row[f"{wrong}_probability"], whose))
        title = "images that only A gets right, with B's mistake; then those that only B gets right"
        draw_page(absolute(arguments.picture), [images[row["image"].encode()] for row in shown], captions, title)


def _show(
    arguments: argparse.Namespace,
    comparison: Comparison,
    rows: Sequence[Mapping[str, Any]],
    both: Sequence[Evaluation],
) -> None:
    summary = comparison.summary()
    evaluated = [evaluation.row() for evaluation in both]
    if arguments.json:
        print(json.dumps({"first": evaluated[0], "second": evaluated[1], **summary}))
        return
    console = make_console()
    console.print(make_table([{"side": side, **row} for side, row in zip("AB", evaluated, strict=True)], _COLUMNS))
    console.print(
        f"{summary['images']:,} images: both right {summary['both_right']:,}, only A {summary['only_first_right']:,}, "
        f"only B {summary['only_second_right']:,}, both wrong {summary['both_wrong']:,}\n"
        f"A and B name the same class for {summary['agreement']:.2f} % of the images\n"
        f"B is {abs(summary['top1_difference']):.2f} points {'worse' if summary['top1_difference'] < 0 else 'better'}; "
        f"if both were equally good, a difference this large would have the probability {summary['p_value']:.3g} "
        "(McNemar's exact test)",
        soft_wrap=True,
    )
    for side, name in (("first", "A"), ("second", "B")):
        own = [row for row in rows if row["right"] == side]
        if own:
            print(f"\nonly {name} is right, {min(len(own), _SHOWN)} of {len(own):,} images:")
        for row in own[:_SHOWN]:
            print(printable_line(f"  {row['image']}: {row['labels']}; A says {row['first']}, B says {row['second']}"))


_COLUMNS: Columns = {
    "": ("side", "{}"),
    "checkpoint": ("checkpoint", "{}"),
    "weights": ("weights", "{}"),
    "data": ("data", "{}"),
    "px": ("image_size", "{}"),
    "crop": ("crop", "{}"),
    "top-1, %": ("top1", "{:.2f}"),
    "top-5, %": ("top5", "{:.2f}"),
    "loss": ("loss", "{:.4f}"),
    "ECE, %": ("ece", "{:.2f}"),
}
