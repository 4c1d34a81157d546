"""A trace of some steps, for XProf and TensorBoard."""

from __future__ import annotations

import re
from typing import Any

import jax


def parse_steps(text: str) -> range:
    """Returns the steps from START to before STOP of a text START:STOP; none of "".

    Raises:
      ValueError: for another text, or if START is not before STOP.
    """
    match = re.fullmatch(r"(\d+):(\d+)", text)
    steps = range(int(match[1]), int(match[2])) if match else range(0)
    if text and not steps:
        raise ValueError(f"the steps to profile must be START:STOP with START before STOP, got {text!r}")
    return steps


def check_within(steps: range, total_steps: int) -> None:
    """Refuses steps that a run does not have.

    Raises:
      ValueError: saying how many it has.
    """
    if steps.stop > total_steps:
        raise ValueError(
            f"the steps to profile are {steps.start}:{steps.stop}, but the run has {total_steps} steps: 0:{total_steps}"
        )


class Trace:
    """Writes what host and devices do in some steps into a folder; a context."""

    def __init__(self, folder: str, steps: range) -> None:
        self._folder = folder
        self._steps = steps
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
