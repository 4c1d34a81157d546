"""A line on the standard error stream that says what a command is doing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

_CLEAR = "\r\x1b[K"


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A context with a function that shows a text.

    On a terminal each text replaces the one before, and the last is cleared at the end. The cursor stays at the start
    of the line, so that a log line replaces the text too. Elsewhere, such as in a file, each text is on a line of its
    own. No thread draws it, so that it takes no CPU time from what is being timed.
    """
    terminal = sys.stderr.isatty()

    def show(text: str) -> None:
        print(f"{_CLEAR}{text}\r" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if terminal:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
