"""Times exported programs for `effnetv2 bench --exports`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from effnetv2_jax.cli.tables.table import Columns, make_table
from effnetv2_jax.cli.terminal.progress_line import progress_line
from effnetv2_jax.cli.terminal.quiet_libraries import import_tensorflow_with_onednn, native_messages_held
from effnetv2_jax.export.formats import format_of
from effnetv2_jax.export.speed import program_speed
from effnetv2_jax.train.report.console import make_console

# Column title → the key of a program's figures, its format and a factor.
_COLUMNS: Columns = {
    "program": ("file", "{}"),
    "runtime": ("runtime", "{}"),
    "MB": ("bytes", "{:,.1f}", 1e-6),
    "first image, s": ("load_seconds", "{:.2f}"),
    "one image, ms": ("latency_seconds", "{:,.1f}", 1e3),
    "batch": ("batch_size", "{}"),
    "images/s": ("images_per_second", "{:,.1f}"),
    "CPU ms an image": ("cpu_seconds", "{:,.1f}", 1e3),
}


def time_exports(paths: Sequence[Path], batch_size: int, seconds: float, *, json_output: bool) -> int:
    """Times exported programs in their runtimes, and prints a table or JSON. Returns the exit code."""
    if any("tensorflow" in format_of(path).packages for path in paths):
        import_tensorflow_with_onednn()
    figures = []
    with progress_line() as show:
        for number, path in enumerate(paths, start=1):
            show(f"program {number} of {len(paths)}: {path}")
            with native_messages_held():
                figures.append(program_speed(path, batch_size, seconds))
    if json_output:
        print(json.dumps(figures, indent=1))
    else:
        make_console().print(make_table(figures, _COLUMNS))
    return 0
