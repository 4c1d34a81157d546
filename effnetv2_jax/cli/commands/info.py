"""`effnetv2 info`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import rich.box
import rich.console
import rich.table

from effnetv2_jax.cli.options.config_file import UsageError
from effnetv2_jax.cli.options.numbers import whole
from effnetv2_jax.cli.tables.pretrained import pretrained_table
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.summary import Component, components, count_multiply_adds, count_parameters
from effnetv2_jax.model.variants import VARIANTS, get_spec
from effnetv2_jax.pretrained.table import TABLE
from effnetv2_jax.train.report.console import make_console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "variant", nargs="?", help="show the blocks of this variant or file with a spec (default: list all variants)"
    )
    parser.add_argument(
        "--pretrained",
        action="store_true",
        help="list the published weights, of this variant or of all (default: list the architectures)",
    )
    parser.add_argument(
        "--image-size",
        type=whole(1),
        metavar="PX",
        help="side of the images (default: each variant's evaluation size)",
    )
    parser.add_argument(
        "--picture",
        metavar="FILE.png",
        help="with a variant or spec: draw it, a line for each row with a box for each block (default: no picture)",
    )
    parser.add_argument(
        "--num-classes", type=whole(0), default=1000, metavar="N", help="number of classes (default: 1000)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints a table of all variants, of the components of one (stem, blocks, head, classifier), or of weights."""
    console = make_console()
    if arguments.picture and (arguments.variant is None or arguments.pretrained):
        raise UsageError("--picture needs a variant or a file with a spec")
    if arguments.pretrained:
        console.print(_published(arguments.variant))
        return 0
    if arguments.variant is None:
        console.print(_variants_table(arguments.image_size, arguments.num_classes))
        return 0
    spec = get_spec(arguments.variant)
    size = arguments.image_size or spec.eval_size
    network = list(components(spec, size, arguments.num_classes))
    console.print(_variant_table(spec, size, network))
    console.print(f"citation: {spec.citation}", soft_wrap=True)
    if arguments.picture:
        from effnetv2_jax.search.pictures import draw_spec

        draw_spec(Path(arguments.picture), spec)
        print(f"picture: {arguments.picture}", file=sys.stderr)
    return 0


def _published(variant: str | None) -> rich.table.Table:
    """Returns the table of the published weights of a variant, or of all variants.

    Raises:
      ValueError: for an unknown variant, or one without published weights.
    """
    rows = [row for row in TABLE if variant is None or row.variant == get_spec(variant).name]
    if not rows:
        raise ValueError(f"there are no published weights of {variant} that this project knows")
    return pretrained_table(rows)


def _variants_table(image_size: int | None, num_classes: int) -> rich.table.Table:
    names = ("variant", "parameters", "adds", "train", "eval", "dropout", "top-1", "21k→1k")
    table = _table(names, left=1)
    for spec in VARIANTS.values():
        size = image_size or spec.eval_size
        table.add_row(
            spec.name,
            f"{count_parameters(spec, num_classes):,}",
            _billions(count_multiply_adds(spec, size, num_classes)),
            str(spec.train_size),
            str(size),
            f"{spec.dropout_rate:g}",
            _score(spec.top1),
            _score(spec.top1_21k),
        )
    table.caption = (
        "adds: multiply-adds for one image of size eval · train, eval: image sizes, px\n"
        "top-1: published % on ImageNet-1k · 21k→1k: the same after pre-training on 21k"
    )
    return table


def _variant_table(spec: ModelSpec, size: int, components: Sequence[Component]) -> rich.table.Table:
    table = _table(("component", "row", "type", "output", "parameters", "adds"), left=3)
    table.title = f"{spec.name} at {size}×{size}"
    for component in components:
        row = "" if component.row is None else str(component.row)
        output = f"{component.image_size}×{component.image_size}×{component.features}"
        numbers = f"{component.parameters:,}", _rounded(component.multiply_adds)
        table.add_row(component.name, row, component.description, output, *numbers)
    table.add_section()
    parameters = sum(component.parameters for component in components)
    statistics = sum(component.statistics for component in components)
    total = _rounded(sum(component.multiply_adds for component in components))
    table.add_row("total", "", "", "", f"{parameters:,}", total, style="bold")
    table.caption = f"adds: multiply-adds for one image · BatchNorm statistics, not counted above: {statistics:,}"
    return table


def _table(names: Sequence[str], left: int) -> rich.table.Table:
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", caption_justify="left"
    )
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    return table


def _billions(count: int) -> str:
    return f"{count / 1e9:.3f} B"


def _rounded(count: int) -> str:
    """Returns a count in billions, millions or thousands, with three digits."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:  # less is rounded to at most 999 of the next unit
            number = count / size
            return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"
    return str(count)


def _score(top1: float | None) -> str:
    return "–" if top1 is None else f"{top1:.1f}"
