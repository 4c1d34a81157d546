"""Stopping at a signal: SIGTERM, Ctrl-C, or the platform's preemption notice."""

from __future__ import annotations

import signal
import types
from typing import Any

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 75


class Stopped(Exception):
    """The run stopped at a signal, after saving; the same command resumes from `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step} after saving")
        self.step = step


class StopSignal:
    """A context in which SIGTERM and Ctrl-C request a stop; a second Ctrl-C interrupts at once.

    A single process sets a flag and stops after the current step.

    With several processes, any of them may get the signal. `jax.distributed.initialize` installs JAX's preemption
    service as the handler of SIGTERM. Within a second it makes all processes stop after the same step, the first that
    none of them has passed. That handler stays in place, and Ctrl-C is forwarded to it. A signal that arrives before
    `starts_at` is ignored, since there is nothing to save yet. A second SIGTERM ends the process, and the others with
    it.
    """

    def __init__(self) -> None:
        self._received = False
        self._several = jax.process_count() > 1
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        numbers = (signal.SIGINT,) if self._several else (signal.SIGTERM, signal.SIGINT)
        try:
            self._previous = {number: signal.signal(number, self._receive) for number in numbers}
        except ValueError:  # outside the main thread, for example in a notebook's executor, signals cannot be handled
            self._previous = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def starts_at(self, step: int) -> None:
        """Announces the step that the run starts or resumes at. Every process must call this before the first step."""
        if self._several:
            multihost_utils.reached_preemption_sync_point(step)

    def stops_at(self, step: int) -> bool:
        """Returns whether the run must stop after this step. Every process must call this at every step."""
        if self._several:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._received

    def _receive(self, number: int, _: types.FrameType | None) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = True
        if self._several:
            signal.raise_signal(signal.SIGTERM)
