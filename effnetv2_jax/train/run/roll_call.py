"""The roll call of a run's processes: if one is killed, or its machine is lost, the others say which, and stop."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
from jax._src import distributed  # has the key-value store of the processes, which has no public name

from effnetv2_jax.train.run import processes
from effnetv2_jax.train.run.preemption import Stopped

_LEFT, _FAILED = "left", "failed"

_generations = itertools.count()


class _Answer(NamedTuple):
    """The latest sign of a process, and the time in seconds since when it is the same."""

    sign: str
    since: float


class RollCall:
    """A context in which each process of a run shows that it lives, and notices which others do not.

    JAX has no answer to a lost process but to abort the others with a stack trace. It still does so, and at once, if
    the first process is lost, since that one keeps the roll.
    """

    def __init__(self, stop: Callable[[], None], *, active: bool = True) -> None:
        """Prepares the context.

        Args:
          stop: called in a thread when processes are lost; it must end this process after some seconds.
          active: whether to take part, the same in all processes. A run of one process never does.
        """
        self._stop = stop
        self._active = active and jax.process_count() > 1
        self._client: Any = distributed.global_state.client
        self._roll = f"effnetv2_jax/roll/{next(_generations)}/"
        self._last_sign = _LEFT
        self._closed, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._call, name="roll call", daemon=True)

    def __enter__(self) -> Self:
        if self._active:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leaves the roll. An error of JAX may be due to a lost process: then it stays until `stop` ends this one."""
        if not self._active:
            return
        if kind and issubclass(kind, jax.errors.JaxRuntimeError) and self._lost.wait(2 * processes.SILENCE_SECONDS):
            threading.Event().wait()
        self._last_sign = _FAILED if kind and not issubclass(kind, Stopped) else _LEFT
        self._closed.set()
        self._thread.join()

    def _call(self) -> None:
        others = {process: _Answer("", time.monotonic()) for process in range(jax.process_count())}
        del others[jax.process_index()]
        for call in itertools.count():
            closed = self._closed.wait(processes.SILENCE_SECONDS / 10)
            latest = self._answers(self._last_sign if closed else str(call))
            if closed:
                return
            for process, answer in others.items():
                sign = latest.get(process, answer.sign)
                if sign != answer.sign or sign == _LEFT:
                    others[process] = _Answer(sign, time.monotonic())
            lost = [_told(process, answer) for process, answer in others.items() if _is_lost(answer)]
            if latest and lost:
                self._lost.set()
                print(f"effnetv2 train: {'; '.join(lost)}; all processes stop", file=sys.stderr, flush=True)
                self._stop()
                return

    def _answers(self, sign: str) -> dict[int, str]:
        """Gives this process's sign of life, and returns the latest one of each process, or none if that fails."""
        try:
            self._client.key_value_set(f"{self._roll}{jax.process_index()}", sign, allow_overwrite=True)
            return {int(key.rpartition("/")[2]): found for key, found in self._client.key_value_dir_get(self._roll)}
        except jax.errors.JaxRuntimeError:  # the first process is busy
            return {}


def _is_lost(answer: _Answer) -> bool:
    """Returns whether a process is silent for too long, or failed a while ago while this one has not failed too."""
    seconds = processes.SILENCE_SECONDS / (10 if answer.sign == _FAILED else 1)
    return time.monotonic() - answer.since > seconds


def _told(process: int, answer: _Answer) -> str:
    if answer.sign == _FAILED:
        return f"process {process} has ended with an error, which it printed"
    return (
        f"process {process} has given no sign of life for {processes.SILENCE_SECONDS:g} s: it was killed or stopped, "
        "or its machine is lost"
    )
