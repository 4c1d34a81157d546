"""A run's metrics by step, as `metrics.jsonl` and TensorBoard event files."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from effnetv2_jax.train.report.event_file import event_file_name, first_events, scalar_event
from effnetv2_jax.train.report.growing_file import GrowingFile
from effnetv2_jax.train.run_folder.claim import METRICS
from effnetv2_jax.whole_file import write_whole

_FLUSH_SECONDS = 5.0


def read_metrics(workdir: epath.Path) -> list[dict[str, Any]]:
    """Returns the rows of `metrics.jsonl` in a run folder, in order; none if the file does not exist.

    A last line that was only partly written is left out.

    Raises:
      ValueError: if any other line is damaged; the message names it.
    """
    path = workdir / METRICS
    lines = path.read_text().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                raise ValueError(f"line {number} of {path} is damaged: {line[:80]!r}; repair or remove it") from None
    return rows


class MetricsWriter:
    """Appends rows of numbers to a run's files, in a thread, so that a slow or failing disk does not stop the run.

    Rows that cannot be written stay in memory, and each later row tries again. When a run resumes at a step, the rows
    after that step are dropped, since the run will write them again.
    """

    def __init__(self, workdir: epath.Path, first_step: int, warn: Callable[[str], None]) -> None:
        """Drops later rows and starts a new event file.

        Args:
          workdir: the run folder, which exists.
          first_step: number of steps that the run resumes at.
          warn: shows a warning when writing begins to fail, and when it works again.

        Raises:
          OSError: if `metrics.jsonl` cannot be written.
        """
        self._rows = [row for row in read_metrics(workdir) if row["step"] <= first_step]
        kept = b"".join(map(_line, self._rows))
        write_whole(workdir / METRICS, kept)
        self._lines = GrowingFile(workdir / METRICS, warn, kept)
        self._events = GrowingFile(workdir / "tensorboard" / event_file_name(), warn)
        self._events.add(first_events(first_step + 1))
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "metrics")
        self._writing = self._thread.submit(self._write_files)

    def close(self) -> None:
        """Writes what is not written yet.

        Raises:
          OSError: if rows cannot be written. Events that cannot be are only warned of.
        """
        self._thread.submit(self._write_files).result()
        self._thread.shutdown()
        missing = self._lines.unwritten.count(b"\n")
        if missing:
            raise OSError(f"the last {missing:,} of {len(self._rows):,} rows of {METRICS} could not be written")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows of the run so far."""
        return list(self._rows)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a row of values, by names such as `train/loss`, after `step` steps."""
        self._rows.append({"step": step, **values})
        self._lines.add(_line(self._rows[-1]))
        self._events.add(scalar_event(step, values))
        if self._writing.done():
            self._writing = self._thread.submit(self._write_files, due_only=True)

    def flush(self) -> None:
        """Waits until all rows are written, or for a few seconds if that fails or takes longer."""
        self._writing = self._thread.submit(self._write_files)
        concurrent.futures.wait([self._writing], _FLUSH_SECONDS)

    def _write_files(self, *, due_only: bool = False) -> None:
        for file in (self._lines, self._events):
            if file.is_due() or not due_only:
                with contextlib.suppress(OSError):  # the file has warned of it, and is written later
                    file.write()


def _line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row) + "\n").encode()
