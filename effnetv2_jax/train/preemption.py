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
    """Within its context SIGTERM and Ctrl-C set a flag; a second Ctrl-C interrupts at once."""

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self._received = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        try:
            self._previous = {number: signal.signal(number, self._receive) for number in self._SIGNALS}
        except ValueError:  # not the main thread, as in a notebook's executor: signals stay as they are
            self._previous = {}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stops_at(self, step: int) -> bool:
        """Tells whether the run should stop after this step; every process of a run must ask at every step."""
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._received

    def _receive(self, number: int, frame: types.FrameType | None) -> None:
        del frame
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = True
