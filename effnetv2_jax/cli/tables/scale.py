"""The tables that `effnetv2 scale` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.box
import rich.table

from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.model.scaling import layers_of
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.summary import count_multiply_adds, count_parameters
from effnetv2_jax.train.report.console import make_console

_COLUMNS: Columns = {
    "network": ("network", "{}"),
    "phi": ("phi", "{:.2f}"),
    "parameters, M": ("parameters", "{:.2f}", 1e-6),
    "adds, B": ("multiply_adds", "{:.2f}", 1e-9),
    "step, ms": ("step_ms", "{:.3g}"),
    "train": ("train_size", "{}"),
    "eval": ("eval_size", "{}"),
    "dropout": ("dropout_rate", "{:.2f}"),
}


def print_networks(
    base: ModelSpec, scaled: Sequence[ModelSpec], alike: Sequence[ModelSpec], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Prints the figures of each network, and its rows of blocks beside those of the variants to compare with."""
    console = make_console()
    console.print(make_table(rows, _COLUMNS, f"{base.name}, scaled"))
    console.print("adds: multiply-adds for one image of size eval · train, eval: image sizes, px")
    published = [*alike, *([None] * (len(scaled) - len(alike)))]
    for spec, other in zip(scaled, published, strict=True):
        console.print()
        console.print(_rows_table(base, spec, other))
        if other:
            console.print(_compared(spec, other))


def _rows_table(base: ModelSpec, spec: ModelSpec, other: ModelSpec | None) -> rich.table.Table:
    """Returns a table with the layers and channels of each row: of the base, the scaled network and a variant."""
    networks = [base, spec, *([other] if other else [])]
    table = rich.table.Table(
        title=f"{spec.name}: layers × channels", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left"
    )
    for name in ("row", *(each.name for each in networks), *(["difference"] if other else [])):
        table.add_column(name, justify="right", no_wrap=True)
    cells = [_cells(each) for each in networks]
    for row in range(max(map(len, cells))):
        shown = [each[row] if row < len(each) else None for each in cells]
        difference = [_difference(shown[1], shown[2])] if other else []
        table.add_row(str(row), *(f"{each[0]} × {each[1]}" if each else "–" for each in shown), *difference)
    return table


def _cells(spec: ModelSpec) -> list[tuple[int, int]]:
    return list(zip(layers_of(spec), [spec.features(row.features) for row in spec.rows], strict=True))


def _difference(ours: tuple[int, int] | None, theirs: tuple[int, int] | None) -> str:
    if not ours or not theirs:
        return "–"
    return f"{ours[0] - theirs[0]:+d} × {ours[1] - theirs[1]:+d}"


def _compared(spec: ModelSpec, other: ModelSpec) -> str:
    """Returns how the totals of the scaled network differ from those of a variant, in words."""
    parts = []
    for name, ours, theirs in (
        ("layers", sum(layers_of(spec)), sum(layers_of(other))),
        ("parameters", count_parameters(spec), count_parameters(other)),
        ("multiply-adds", count_multiply_adds(spec, spec.eval_size), count_multiply_adds(other, other.eval_size)),
    ):
        parts.append(f"{100 * (ours / theirs - 1):+.1f} % {name}")
    return f"compared with {other.name}: {', '.join(parts)}, evaluation images {spec.eval_size - other.eval_size:+d} px"
