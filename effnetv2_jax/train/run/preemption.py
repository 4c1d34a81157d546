"""Being told to stop: SIGTERM, Ctrl-C, or the platform's preemption notice."""

from __future__ import annotations

import signal
import types
from typing import Any

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 75


class Stopped(Exception):
    """The run stopped at a signal, after saving; the same command goes on from `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step} after saving")
        self.step = step


class StopSignal:
    """Within its context SIGTERM and Ctrl-C ask for a stop; a second Ctrl-C interrupts at once.

    A process alone sets a flag and stops after the step at hand. Of several processes it takes one to be told: JAX's
    preemption service, which has SIGTERM's handler since `jax.distributed.initialize`, hears of it within a second and
    lets all stop after the same step, the first that none of them has passed. So that handler stays, and Ctrl-C is
    handed to it. It counts from `starts_at`: told before, a run that goes on from a checkpoint has nothing to save and
    trains on; a second SIGTERM ends that process, and the others with it.
    """

    def __init__(self) -> None:
        self._received = False
        self._several = jax.process_count() > 1
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        numbers = (signal.SIGINT,) if self._several else (signal.SIGTERM, signal.SIGINT)
        try:
            self._previous = {number: signal.signal(number, self._receive) for number in numbers}
        except ValueError:  # not the main thread, as in a notebook's executor: signals stay as they are
            self._previous = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def starts_at(self, step: int) -> None:
        """Says which step the run goes on from; every process of a run must, before the first step."""
        if self._several:
            multihost_utils.reached_preemption_sync_point(step)

    def stops_at(self, step: int) -> bool:
        """Tells whether the run should stop after this step; every process of a run must ask at every step."""
        if self._several:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._received

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = True
        if self._several:
            signal.raise_signal(signal.SIGTERM)
