"""Stopping at a signal: SIGTERM, Ctrl-C, or the platform's preemption notice."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Self

import jax

from effnetv2_jax.train.run.stop_agreement import StopAgreement

EXIT_CODE = 75

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PARTING_SECONDS = 1.0  # of the grace period, in which processes wait for each other before they end
_SAME_SIGNAL_SECONDS = 0.5  # a launcher and a terminal may both pass on one Ctrl-C


class Stopped(Exception):
    """The run stopped at a signal; what it had done up to `step` is saved, and the same command resumes there."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step} after saving" if step else "stopped before the first step")
        self.step = step


_kept = threading.Event()  # a SIGTERM has come before there was a `StopSignal`


@contextlib.contextmanager
def kept_for_run() -> Iterator[None]:
    """A context in which a SIGTERM is kept until there is a `StopSignal`, which then stops the run.

    It must begin after the processes have joined: from then on, JAX would take the signal and do nothing.
    """
    try:
        previous = signal.signal(signal.SIGTERM, lambda *_: _kept.set())
    except ValueError:  # outside the main thread, for example in a notebook's executor, signals cannot be handled
        yield
        return
    try:
        yield
    finally:
        _kept.clear()
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


class StopSignal:
    """A context in which SIGTERM and Ctrl-C stop the run; a second signal ends the process at once.

    A signal raises no error by itself, since an error that comes at any moment may be lost. The run asks for it at safe
    points: with `check()` while it starts, waits for a program or evaluates, and with `stops_now()` after each step,
    within `deferred()`, so that it can save first. With several processes, a signal to any of them stops all after the
    same step.

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
        self._begun = threading.Lock()
        self._previous: dict[signal.Signals, Any] = {}
        self._wakeups: tuple[socket.socket, socket.socket] | None = None
        self._agreement = StopAgreement(self.request) if jax.process_count() > 1 else None

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
        if _kept.is_set():
            self.request()
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
        """A context of steps, in which `stops_now` tells when to stop, and `check` does nothing.

        Raises:
          Stopped: if the run must stop before the next step.
        """
        with self._deferring(True):
            if self._agreement.leaves if self._agreement else self._since is not None:
                raise Stopped(self.saved_step())
            yield

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """A context within `deferred()` in which `check` raises `Stopped` again. The state must be saved already."""
        with self._deferring(False):
            self.check()
            yield

    def check(self) -> None:
        """Raises `Stopped` if a signal has come, except between steps."""
        if self._since is not None and not self._deferred:
            raise Stopped(self.saved_step())

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

    @contextlib.contextmanager
    def _deferring(self, deferred: bool) -> Iterator[None]:
        outside, self._deferred = self._deferred, deferred
        try:
            if self._agreement:
                self._agreement.set_idle(not deferred)
            yield
        finally:
            self._deferred = outside
            if self._agreement:
                self._agreement.set_idle(not outside)

    def _handle(self, *_: object) -> None:
        """Handles a signal in the main thread, as soon as it runs Python code."""
        if not self._own_process and self._is_second():
            raise KeyboardInterrupt
        self.request()

    def _watch(self, wakeups: socket.socket) -> None:
        """Handles signals in a thread of its own, even if the main thread does not run Python code for a while."""
        with contextlib.suppress(OSError):  # closed
            while numbers := wakeups.recv(64):
                for number in numbers:
                    if number not in _SIGNALS:
                        continue
                    if self._is_second():
                        _end(128 + number, "interrupted; what is saved is not affected")
                    self.request()

    def _is_second(self) -> bool:
        """Returns whether a signal that has just come is not the first one."""
        return self._since is not None and time.monotonic() - self._since > _SAME_SIGNAL_SECONDS

    def request(self) -> None:
        """Does what a first signal does: starts the grace period, and tells the other processes."""
        with self._begun:
            if self._since is not None:
                return
            self._since = time.monotonic()
            if self._own_process:
                # The first process serves the others, so it leaves last.
                seconds = _PARTING_SECONDS + (0.0 if jax.process_index() == 0 else 1.0) if self._agreement else 0.0
                timer = threading.Timer(max(0.0, self._grace_seconds - seconds), self._grace_is_over)
                timer.daemon = True
                timer.start()
            if self._agreement:
                self._agreement.begin(self._grace_seconds)

    def _grace_is_over(self) -> None:
        text = (
            f"the grace period of {self._grace_seconds:g} s is over; the run is saved up to step {self.saved_step()}, "
            "and the same command resumes from there"
        )
        if self._agreement:  # otherwise JAX aborts the processes that are still there, with a stack trace
            parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
            parting.start()
            parting.join(_PARTING_SECONDS)
        _end(EXIT_CODE, text)


def _end(code: int, text: str = "") -> NoReturn:
    if text:
        print(f"effnetv2 train: {text}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
