"""The table that `effnetv2 tune` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from effnetv2_jax.analysis.tuning.compiler_options import OPTIONS
from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.train.report.console import make_console

if TYPE_CHECKING:
    from effnetv2_jax.analysis.tuning.search import Result

_COLUMNS: Columns = {
    "program": ("program", "{}"),
    "px": ("image_size", "{}"),
    "microbatches": ("microbatches_before", "{}"),
    "→": ("microbatches", "{}"),
    "M cycles": ("cycles_before", "{:.2f}", 1e-6),
    "→ ": ("cycles", "{:.2f}", 1e-6),
    "ratio": ("ratio", "{:.3f}"),
    "HBM, GB": ("hbm_bytes", "{:.2f}", 1e-9),
    "compiled in s": ("compile_seconds", "{:.0f}"),
    "hours": ("hours", "{:.3g}"),
    "saved": ("hours_saved", "{:.3g}"),
    "price saved": ("price_saved", "{:,.2f}"),
}


def print_result(result: Result, rows: Sequence[Mapping[str, Any]], price: float | None) -> None:
    """Prints what was found for each program, and the hours of the run before and after."""
    console = make_console()
    before, after = result.before, result.after
    assert after.topology is not None
    console.print(make_table(rows, _COLUMNS, f"{after.experiment.spec.name} on {after.topology.name}, per chip"))
    for name, settings in result.tuning.settings.items():
        console.print(f"{name}: {', '.join(settings.extras) or 'no options'}")
    used = {name for settings in result.tuning.settings.values() for name in settings.compiler_options}
    for option in (option for option in OPTIONS if option.name in used):
        console.print(f"{option.name}: {option.meaning} ({option.source})")
    chips = after.topology.chips
    money = f", {chips * price * (before.hours - after.hours):,.2f} saved at {price:g} a chip-hour" if price else ""
    console.print(
        f"{before.hours:.3g} → {after.hours:.3g} hours ({after.hours / before.hours:.3f} of them), "
        f"{chips * (before.hours - after.hours):,.1f} chip-hours saved{money}"
    )
    console.print("These are estimates by the TPU compiler, not measurements: they leave out communication and input.")
