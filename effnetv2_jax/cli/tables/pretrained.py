"""The table of published weights in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import rich.box
import rich.table

from effnetv2_jax.pretrained.published_weights import PublishedWeights

_CAPTION = (
    "names: for --checkpoint, --config.init_from and convert; the first framework that has a name is meant, and\n"
    "--framework chooses another · crop: share of the shorter side that its publisher evaluates, at px\n"
    "family: the preprocessing, with its mean and standard deviation · top-1: published % on ImageNet-1k · "
    "–: not known"
)


def pretrained_table(rows: Sequence[PublishedWeights]) -> rich.table.Table:
    """Returns a table with a line for each row."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), caption_justify="left")
    for name in ("name", "framework"):
        table.add_column(name, no_wrap=True)
    for name in ("classes", "px", "crop", "family", "top-1", "MB", "licence"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.name, row.framework, *pretrained_cells(row))
    table.caption = _CAPTION
    return table


def pretrained_cells(row: PublishedWeights) -> tuple[str, ...]:
    """Returns a row's classes, size, crop, family, accuracy, size of the file and licence."""
    return (
        f"{row.num_classes:,}" if row.num_classes else "none",
        str(row.eval_size),
        row.crop,
        row.preprocessing,
        "–" if row.top1 is None else f"{row.top1:.1f}",
        "–" if row.megabytes is None else f"{row.megabytes:g}",
        row.licence or "–",
    )
