"""A trace of some steps, for XProf and TensorBoard."""

from __future__ import annotations

import re
from typing import Any

import jax


class Trace:
    """Writes what host and devices do in steps `start` ≤ step < `stop` into a folder; a context. "" traces nothing.

    Raises:
      ValueError: if the steps are not START:STOP with START < STOP.
    """

    def __init__(self, folder: str, steps: str) -> None:
        match = re.fullmatch(r"(\d+):(\d+)", steps)
        if steps and not (match and int(match[1]) < int(match[2])):
            raise ValueError(f"the steps to profile must be START:STOP with START before STOP, got {steps!r}")
        self._folder = folder
        self._steps = range(int(match[1]), int(match[2])) if match else range(0)
        self._running = False

    def before(self, step: int, state: Any) -> None:
        """Starts or stops the trace where the step about to be taken says so, once the steps before it are done.

        Args:
          step: about to be taken.
          state: what the step before it gives, perhaps still being computed.
        """
        if (step in self._steps) == self._running:
            return
        jax.block_until_ready(state)
        if self._running:
            self._stop()
        else:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._running = False
