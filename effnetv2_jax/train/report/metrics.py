"""What a run writes about itself by step: `metrics.jsonl` and TensorBoard event files."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from etils import epath

FILE = "metrics.jsonl"


def read_metrics(workdir: epath.Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's `metrics.jsonl`, in order; none if there is no such file.

    A last line that was cut off while being written is left out.
    """
    path = workdir / FILE
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

    Resuming at a step drops the rows after it, which the run is about to write again.
    """

    def __init__(self, workdir: epath.Path, first_step: int) -> None:
        from tensorboardX import SummaryWriter
        from tensorboardX.record_writer import register_writer_factory

        register_writer_factory("gs", _CloudEvents())
        rows = [row for row in read_metrics(workdir) if row["step"] <= first_step]
        self._rows = rows
        self._path = workdir / FILE
        temporary = workdir / f"{FILE}.tmp"
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
        temporary.replace(self._path)
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1)

    def close(self) -> None:
        """Finishes the files."""
        self._events.close()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every row of the run so far."""
        return list(self._rows)

    def write(self, step: int, values: Mapping[str, float], prefix: str) -> None:
        """Adds a row: the values under `prefix/name`, such as `train/loss`, after `step` steps."""
        row = {"step": step} | {f"{prefix}/{name}": value for name, value in values.items()}
        self._rows.append(row)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if name != "step":
                self._events.add_scalar(name, value, step)


class _CloudEvents:
    """How tensorboardX opens event files in `gs://`: as a run's other files; its own way needs one more package."""

    def directory_check(self, path: str) -> None:
        epath.Path(path).mkdir(parents=True, exist_ok=True)

    def open(self, path: str) -> _CloudFile:
        return _CloudFile(path)


class _CloudFile(contextlib.ExitStack):
    """A file that epath opens, which in `gs://` is a context alone, as one to write, flush and close."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._file = self.enter_context(epath.Path(path).open("wb"))
        self.write = self._file.write

    def flush(self) -> None:
        """Uploads what was written.

        tensorboardX does so in a thread of its own, at whose end the run would wait for ever. So a failure is told, and
        the next flush tries again, or `close`, which raises it.
        """
        try:
            self._file.flush()
        except Exception as error:
            logging.getLogger(__name__).warning("event file not uploaded yet: %s", error)
