"""The table that `effnetv2 search` prints."""

from __future__ import annotations

from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.search.report import SearchReport
from effnetv2_jax.train.report.console import make_console

_MOST_ROWS = 30

_COLUMNS: Columns = {
    "network": ("network", "{}"),
    "top-1, %": ("top1", "{:.2f}"),
    "step, ms": ("step_seconds", "{:.3g}", 1e3),
    "parameters, M": ("parameters", "{:.3f}", 1e-6),
    "reward": ("reward", "{:.4f}"),
    "": ("state", "{}"),
}


def print_report(report: SearchReport) -> None:
    """Prints the networks with the highest rewards, and how many there are."""
    console = make_console()
    rows, settings = report.rows, report.settings
    finished = sum(row["number"] >= 0 for row in rows)
    title = f"{settings.method}: {finished} of {settings.samples} candidates"
    shown = [*rows[:_MOST_ROWS], *(row for row in rows[_MOST_ROWS:] if row["number"] < 0)]
    console.print(make_table(shown, _COLUMNS, title))
    states = [row["state"] for row in rows]
    console.print(
        f"{states.count('front')} on the Pareto front, {states.count('stopped early')} stopped early, "
        f"{states.count('failed')} failed; {settings.space.size:.2g} networks in the space"
    )
    if settings.topology:
        console.print(f"Steps are estimates by the TPU compiler for {settings.topology}, as sums of rows.")
