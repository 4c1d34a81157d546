"""A run's metrics by step, as `metrics.jsonl` and TensorBoard event files."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from etils import epath

from effnetv2_jax.train.run.workdir import METRICS


def read_metrics(workdir: epath.Path) -> list[dict[str, Any]]:
    """Returns the rows of `metrics.jsonl` in a run folder, in order; none if the file does not exist.

    A last line that was only partly written is left out.

    Raises:
      ValueError: if any other line is damaged.
    """
    path = workdir / METRICS
    lines = path.read_text().splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            if number + 1 < len(lines):
                raise
    return rows


class MetricsWriter:
    """Appends rows of numbers to a run's files.

    When a run resumes at a step, the rows after that step are dropped, since the run will write them again.
    """

    def __init__(self, workdir: epath.Path, first_step: int) -> None:
        from tensorboardX import SummaryWriter
        from tensorboardX.record_writer import register_writer_factory

        register_writer_factory("gs", _CloudEvents())
        rows = [row for row in read_metrics(workdir) if row["step"] <= first_step]
        self._rows = rows
        self._path = workdir / METRICS
        temporary = workdir / f"{METRICS}.tmp"
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        temporary.replace(self._path)
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1)

    def close(self) -> None:
        """Flushes and closes the files."""
        self._events.close()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows of the run so far."""
        return list(self._rows)

    def write(self, step: int, values: Mapping[str, float], prefix: str) -> None:
        """Adds a row of values after `step` steps, under names such as `train/loss` for the prefix `train`."""
        row = {"step": step} | {f"{prefix}/{name}": value for name, value in values.items()}
        self._rows.append(row)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name != "step":
                self._events.add_scalar(name, value, step)


class _CloudEvents:
    """Lets tensorboardX write event files to `gs://` through epath. Its own writer needs another package."""

    def directory_check(self, path: str) -> None:
        epath.Path(path).mkdir(parents=True, exist_ok=True)

    def open(self, path: str) -> _CloudFile:
        return _CloudFile(path)


class _CloudFile(contextlib.ExitStack):
    """A file in `gs://` that can be written, flushed and closed. epath opens files only as contexts."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._file = self.enter_context(epath.Path(path).open("wb"))
        self.write = self._file.write

    def flush(self) -> None:
        """Uploads what was written so far.

        tensorboardX calls this in its own thread, and an error there would make the run wait forever at its end. A
        failure is therefore only logged. The next flush tries again, and `close` raises the error.
        """
        try:
            self._file.flush()
        except Exception as error:
            logging.getLogger(__name__).warning("event file not uploaded yet: %s", error)
