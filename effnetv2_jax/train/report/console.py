"""The console that tables and lines are printed on."""

from __future__ import annotations

import rich.console

# Width in characters of tables where the output is not a terminal, such as a file or the log of a pod.
_LOG_WIDTH = 120


def make_console(*, quiet: bool = False) -> rich.console.Console:
    """Returns a console as wide as the terminal, or wide enough for the project's tables without a terminal."""
    console = rich.console.Console(quiet=quiet, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, _LOG_WIDTH)
    return console
