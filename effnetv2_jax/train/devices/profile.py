"""A profiler trace of some training steps, for XProf and TensorBoard."""

from __future__ import annotations

import re
from typing import Any

import jax


def parse_steps(text: str) -> range:
    """Returns the steps from START to STOP − 1 for the text START:STOP, and no steps for "".

    Raises:
      ValueError: for any other text, or if START is not less than STOP.
    """
    match = re.fullmatch(r"(\d+):(\d+)", text)
    steps = range(int(match[1]), int(match[2])) if match else range(0)
    if text and not steps:
        raise ValueError(f"the steps to profile must be START:STOP with START less than STOP, got {text!r}")
    return steps


def check_within(steps: range, total_steps: int) -> None:
    """Checks that a run has all the steps to profile.

    Raises:
      ValueError: if it has fewer.
    """
    if steps.stop > total_steps:
        raise ValueError(
            f"the steps to profile are {steps.start}:{steps.stop}, but the run has only the steps 0:{total_steps}"
        )


class Trace:
    """A context that traces the host and its devices during some steps, and writes the trace into a folder."""

    def __init__(self, folder: str, steps: range) -> None:
        self._folder = folder
        self._steps = steps
        self._running = False

    def before(self, step: int, state: Any) -> None:
        """Starts or stops the trace before a step if it is due, once all earlier steps are done.

        Args:
          step: the next step.
          state: the result of the step before, which may still be in progress.
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
