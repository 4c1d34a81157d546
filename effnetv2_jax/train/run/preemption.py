"""Stopping at a signal: SIGTERM, Ctrl-C, or the platform's preemption notice."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Self

import jax

from effnetv2_jax.train.run.stop_agreement import StopAgreement

EXIT_CODE = 75

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SAME_SIGNAL_SECONDS = 0.5  # a launcher and a terminal may both pass on one Ctrl-C


class Stopped(Exception):
    """The run stopped at a signal; what it had done up to `step` is saved, and the same command resumes there."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step} after saving" if step else "stopped before the first step")
        self.step = step


class StopSignal:
    """A context in which SIGTERM and Ctrl-C stop the run; a second signal ends the process at once.

    While a run starts or waits for a program, a signal raises `Stopped` immediately. Within `deferred()`, it only makes
    `stops_at` return True, so that the run can save first. With several processes, a signal to any of them stops all
    after the same step.

    Attributes:
      saved_step: returns the step of the newest checkpoint that is written.
    """

    def __init__(self, grace_seconds: float = 10.0, *, own_process: bool = False) -> None:
        """Prepares the context.

        Args:
          grace_seconds: seconds from the signal to the end of the process, see `own_process`.
          own_process: whether the process belongs to the run. If so, it ends with `EXIT_CODE` once the grace period is
            over, whatever it is waiting for, and a second signal ends it even while other code runs than Python.
        """
        self.saved_step: Callable[[], int] = lambda: 0
        self._grace_seconds = grace_seconds
        self._own_process = own_process
        self._deferred = False
        self._since: float | None = None  # when the first signal came
        self._simulated = False  # whether the next signal is one that `_heard` makes
        self._raised = False
        self._begun = threading.Lock()
        self._timer: threading.Timer | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._wakeups: tuple[socket.socket, socket.socket] | None = None
        self._agreement = StopAgreement(self._heard) if jax.process_count() > 1 else None

    def __enter__(self) -> Self:
        try:
            self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        except ValueError:  # outside the main thread, for example in a notebook's executor, signals cannot be handled
            return self
        if self._own_process:
            self._wakeups = socket.socketpair()
            self._wakeups[1].setblocking(False)
            signal.set_wakeup_fd(self._wakeups[1].fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(self._wakeups[0],), name="signals", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the signals back, unless the process is being stopped: then the grace period still ends it."""
        if self._agreement:
            self._agreement.close(self._grace_seconds if self._since else 0)
        if self._since and self._own_process:
            return
        if self._wakeups:
            signal.set_wakeup_fd(-1)
            for end in self._wakeups:
                end.close()
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """A context in which a signal does not raise `Stopped`, but makes `stops_now` return True."""
        self._deferred = True
        try:
            if self._agreement:
                self._agreement.working()
            elif self._since:  # the signal came just now
                raise Stopped(self.saved_step())
            yield
        finally:
            self._deferred = False
            if self._agreement:
                self._agreement.idle()

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """A context in which a signal raises `Stopped` immediately, also within `deferred()`."""
        outside, self._deferred = self._deferred, False
        try:
            if self._agreement:
                self._agreement.idle()
            if self._since:
                raise Stopped(self.saved_step())
            yield
        finally:
            self._deferred = outside
            if self._agreement and outside:
                self._agreement.working()

    def stops_now(self) -> bool:
        """Returns whether the run must stop after this step, once the state is saved.

        Every process must call this at the same points of the run, however often.

        Raises:
          Stopped: if the processes cannot reach a common step, because one of them has left already.
        """
        if self._agreement:
            stops = self._agreement.reached()
            if stops is None:
                raise Stopped(self.saved_step())
            return stops
        return self._since is not None

    def _handle(self, _: int, __: types.FrameType | None) -> None:
        """Handles a signal in the main thread, as soon as it runs Python code."""
        if not self._own_process and self._is_second():
            raise KeyboardInterrupt
        self._begin()
        if not self._deferred and not self._raised:
            self._raised = True
            raise Stopped(self.saved_step())

    def _watch(self, wakeups: socket.socket) -> None:
        """Handles signals in a thread of its own, even if the main thread does not run Python code for a while."""
        with contextlib.suppress(OSError):  # closed
            while numbers := wakeups.recv(64):
                for number in numbers:
                    if number not in _SIGNALS:
                        continue
                    if self._is_second():
                        _end(128 + number, "interrupted; what is saved is not affected")
                    self._begin()

    def _is_second(self) -> bool:
        """Returns whether a signal that has just come is the second real one."""
        if self._simulated:
            self._simulated = False
            return False
        return self._since is not None and time.monotonic() - self._since > _SAME_SIGNAL_SECONDS

    def _begin(self) -> None:
        """Starts the grace period, and tells the other processes."""
        with self._begun:
            if self._since is not None:
                return
            self._since = time.monotonic()
            if self._own_process:
                # The first process serves the others, so it leaves last.
                seconds = self._grace_seconds - (0.0 if jax.process_index() == 0 else 1.0)
                self._timer = threading.Timer(max(0.0, seconds), self._grace_is_over)
                self._timer.daemon = True
                self._timer.start()
            if self._agreement:
                self._agreement.begin(self._grace_seconds)

    def _heard(self) -> None:
        """Does what a signal to this process would do; called in a thread when another process has got one."""
        if self._since is None:
            self._simulated = True
            _thread.interrupt_main(signal.SIGTERM)
            self._begin()

    def _grace_is_over(self) -> None:
        _end(
            EXIT_CODE,
            f"the grace period of {self._grace_seconds:g} s is over; the run is saved up to step {self.saved_step()}, "
            "and the same command resumes from there",
        )


def leave(code: int) -> NoReturn:
    """Ends the process without waiting for programs that are still being compiled."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
    _end(code)


def _end(code: int, text: str = "") -> NoReturn:
    if text:
        print(f"effnetv2 train: {text}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
