"""The tables that `effnetv2 ablate` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from effnetv2_jax.ablation.figures import TableResult, Verdict, row_figures
from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.train.report.console import make_console

_COLUMNS: Columns = {
    "row": ("row", "{}"),
    "runs": ("runs", "{}"),
    "top-1, %": ("top1_mean", "{:.2f}"),
    "± deviation": ("top1_spread", "{:.2f}"),
    "difference": ("difference", "{:+.2f}"),
}
_OF_RUNS: Columns = {"seconds here": ("seconds", "{:.3g}"), "seconds on TPU": ("tpu_seconds", "{:.3g}")}
_OF_NETWORKS: Columns = {
    "parameters, M": ("parameters", "{:.3f}", 1e-6),
    "multiply-adds, M": ("multiply_adds", "{:.1f}", 1e-6),
    "steps/s here": ("steps_per_second", "{:.3g}"),
    "steps/s on TPU": ("tpu_steps_per_second", "{:.4g}"),
}
_FORMS = {"top1": "{:+.2f} points", "seconds": "{:+.3g} s", "steps_per_second": "{:+.3g} steps/s"}
_ANSWERS = {"yes": "holds here", "no": "does not hold here", "undecided": "undecided"}


def print_tables(results: Sequence[TableResult], finished: int, runs: int, topology: str) -> None:
    """Prints each table that has results, with its claims, and how many runs are finished."""
    console = make_console()
    for each in results:
        if each.rows:
            columns = {**_COLUMNS, **(_OF_NETWORKS if each.table.networks else _OF_RUNS)}
            console.print(make_table(row_figures(each), columns, each.table.title))
            for row in each.rows:
                for failure in row.failures:
                    console.print(f"  failed: {row.row.name}: {failure}")
            for verdict in each.verdicts:
                console.print(f"  {_line(verdict)}")
            console.print()
    console.print(f"{finished} of {runs} runs are finished.")
    if topology:
        console.print(f"TPU: estimates by the compiler for {topology}, as sums of rows.")


def _line(verdict: Verdict) -> str:
    margin = "one run a row" if math.isnan(verdict.margin) else f"± {verdict.margin:.2g}, 95 %"
    value = _FORMS[verdict.claim.measure].format(verdict.value)
    return f"{_ANSWERS[verdict.holds]}: {verdict.claim.text} ({value}, {margin})"
