"""Signs of life of a run: a file for watchdogs, and what tells a run of several processes that one of them hangs."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal, Self

import jax
from etils import epath

from effnetv2_jax.whole_file import write_whole

HEARTBEAT = "heartbeat.json"
"""The first process's file in the run folder; that of process 3 is `heartbeat_3.json`."""

Phase = Literal["start", "compile", "input", "train", "evaluate", "save", "done"]

_WRITE_SECONDS = 10.0
_LAST_WRITE_SECONDS = 10.0
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Beat:
    """A sign of life.

    Attributes:
      time: Unix time in seconds of the last progress.
      step: number of steps done.
      stage: the stage, from 1; 0 before the first.
      phase: what the process does: it starts, waits for a program to compile or for a batch of images, trains,
        evaluates, waits for a checkpoint to be saved, or is done.
    """

    time: float
    step: int
    stage: int
    phase: Phase


class Heartbeat:
    """A context that writes the latest sign of life into the run folder every ten seconds if there is a new one.

    A run of several processes waits forever for one that hangs. If a process makes no progress for some time, it
    therefore says which processes are late, and asks all of them to stop.
    """

    def __init__(
        self, folder: epath.Path, stall_minutes: float = 0.0, stalled: Callable[[], None] = lambda: None
    ) -> None:
        """Prepares the context.

        Args:
          folder: the run folder, which exists.
          stall_minutes: minutes without progress after which several processes stop; 0 for never.
          stalled: stops them; called in a thread.
        """
        self._folder = folder
        self._stalled = stalled
        self._stall_seconds = 60 * stall_minutes if jax.process_count() > 1 else 0.0
        self._latest = Beat(time.time(), 0, 0, "start")
        self._progress = time.monotonic()
        self._written: Beat | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(_LAST_WRITE_SECONDS)

    def beat(self, phase: Phase, step: int | None = None, stage: int | None = None) -> None:
        """Notes progress; None keeps the last step or stage. The call takes microseconds."""
        latest = self._latest
        step, stage = latest.step if step is None else step, latest.stage if stage is None else stage
        self._progress = time.monotonic()
        self._latest = Beat(time.time(), step, stage, phase)

    def _keep(self) -> None:
        while not self._closed.wait(min(_WRITE_SECONDS, self._stall_seconds / 4 or _WRITE_SECONDS)):
            self._write()
            silent = time.monotonic() - self._progress
            if self._stall_seconds and silent > self._stall_seconds:
                self._tell_stall(silent)
                self._stall_seconds = 0.0
        self._write()

    def _write(self) -> None:
        beat = self._latest
        if beat == self._written:
            return
        try:
            content = f"{json.dumps(dataclasses.asdict(beat))}\n".encode()
            write_whole(self._folder / _name(jax.process_index()), content)
            self._written = beat
        except Exception as error:  # a watchdog must not end a run because its storage fails for a moment
            _log.debug("no heartbeat written: %s", error)

    def _tell_stall(self, silent: float) -> None:
        beat = self._latest
        print(
            f"effnetv2 train: process {jax.process_index()} has made no progress for {silent / 60:.3g} minutes at step "
            f"{beat.step}, {_DOING[beat.phase]}{self._others()}; all processes stop",
            file=sys.stderr,
            flush=True,
        )
        self._stalled()

    def _others(self) -> str:
        """Returns what the processes do that are behind this one, or not in the same phase."""
        late = []
        for index in range(jax.process_count()):
            try:
                beat = Beat(**json.loads((self._folder / _name(index)).read_text()))
            except (OSError, ValueError, TypeError):
                late.append(f"process {index} has given no sign of life")
                continue
            if index != jax.process_index() and (beat.step, beat.phase) != (self._latest.step, self._latest.phase):
                late.append(f"process {index} is at step {beat.step}, {_DOING[beat.phase]}")
        return "; " + "; ".join(late) if late else ""


_DOING: dict[Phase, str] = {
    "start": "starting",
    "compile": "waiting for a program to compile",
    "input": "waiting for images",
    "train": "training",
    "evaluate": "evaluating",
    "save": "waiting for a checkpoint",
    "done": "done",
}


def _name(process: int) -> str:
    return HEARTBEAT if process == 0 else f"heartbeat_{process}.json"
