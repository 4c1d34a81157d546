"""A run's metrics by step, as `metrics.jsonl` and TensorBoard event files."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from etils import epath

from effnetv2_jax.train.run.workdir import METRICS

_TRIES = 3  # the run stops when writing its rows has failed this many times in a row


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

    Objects in a bucket cannot be appended to, so there the file is replaced as a whole for each row. TensorFlow's files
    can be opened for appending, but they download the object first; those of fsspec would overwrite it.
    """

    def __init__(self, workdir: epath.Path, first_step: int) -> None:
        from tensorboardX import SummaryWriter
        from tensorboardX.record_writer import register_writer_factory

        register_writer_factory("gs", _CloudEvents())
        self._path = workdir / METRICS
        self._rows = [row for row in read_metrics(workdir) if row["step"] <= first_step]
        self._failures = 0
        self._replace()
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step + 1)

    def close(self) -> None:
        """Writes the rows that are not written yet, and closes the files."""
        if 0 < self._failures < _TRIES:
            self._replace()
        self._events.close()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows of the run so far."""
        return list(self._rows)

    def write(self, step: int, values: Mapping[str, float], prefix: str) -> None:
        """Adds a row of values after `step` steps, under names such as `train/loss` for the prefix `train`.

        If the row cannot be written, it is written with the next one.

        Raises:
          OSError: if writing has failed for several rows in a row; buckets raise exceptions of their own.
        """
        row = {"step": step} | {f"{prefix}/{name}": value for name, value in values.items()}
        self._rows.append(row)
        line = json.dumps(row) + "\n"
        try:
            self._save(line)
            self._failures = 0
        except Exception as error:  # the clients of buckets have no common class of exceptions
            self._failures += 1
            if self._failures == _TRIES:
                raise
            _warn(f"{self._path} not written yet", error)
        for name, value in row.items():
            if name != "step":
                self._events.add_scalar(name, value, step)

    def _save(self, line: str) -> None:
        if _is_remote(self._path) or self._failures:
            self._replace()
        else:
            with self._path.open("a") as file:
                file.write(line)

    def _replace(self) -> None:
        """Replaces the file by one with all rows, so that it is whole at any time."""
        text = "".join(json.dumps(row) + "\n" for row in self._rows)
        if _is_remote(self._path):  # an upload replaces an object at once
            self._path.write_text(text)
        else:
            temporary = self._path.with_name(f"{METRICS}.tmp")
            temporary.write_text(text)
            temporary.replace(self._path)


def _warn(event: str, error: Exception) -> None:
    """Logs an error in one line."""
    logging.getLogger(__name__).warning("%s: %s", event, " ".join(str(error).split()))


def _is_remote(path: epath.Path) -> bool:
    return "://" in str(path)


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
        self._is_new = False

    def write(self, data: bytes) -> None:
        """Adds to the file, which is uploaded later."""
        self._file.write(data)
        self._is_new = True

    def flush(self) -> None:
        """Uploads what was written so far, if anything was written since the last try.

        tensorboardX calls this in its own thread, and an error there would make the run wait forever at its end. A
        failure is therefore only logged. A flush after more was written tries again, and `close` raises the error.
        """
        if not self._is_new:
            return
        self._is_new = False
        try:
            self._file.flush()
        except Exception as error:
            _warn("event file not uploaded yet", error)
