"""How the processes of a run agree on the step that they all stop after.

JAX's own preemption service hears a signal only between steps. A run must also stop while it reads its data or waits
for a program. It has then not reached the same point as the other processes.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
from jax._src import distributed  # has the key-value store of the processes, which has no public name

_LISTEN_SECONDS = 0.5
_LEAVING = "leaving"

_generations = itertools.count()


class StopAgreement:
    """One process's side of the agreement.

    Every process counts the points at which it could stop. When one is told to stop, all of them publish their counts,
    and stop at the first point that none has passed. A process that is idle, because it starts or waits for a program,
    publishes that it leaves. Then no process can take another step, and all leave without one.
    """

    def __init__(self, heard: Callable[[], None]) -> None:
        """Starts to listen; `heard` is called in a thread once another process is told to stop."""
        self._client: Any = distributed.global_state.client
        self._prefix = f"effnetv2_jax/stop/{next(_generations)}"
        self._heard = heard
        self._lock = threading.Lock()  # held while the processes agree, so that no count rises meanwhile
        self._points = 0
        self._idle = True
        self._stop_at: int | None = None
        self._leaves = False
        self._closed = threading.Event()
        self._agreeing: threading.Thread | None = None
        self._listening = threading.Thread(target=self._listen, name="stop", daemon=True)
        self._listening.start()

    @property
    def leaves(self) -> bool:
        """Whether all processes leave without another step."""
        with self._lock:
            return self._leaves

    def set_idle(self, idle: bool) -> None:
        """Announces whether this process can leave at once, or takes steps."""
        with self._lock:
            self._idle = idle

    def reached(self) -> bool | None:
        """Counts a point, and returns whether all processes stop there, or None if they leave without agreement."""
        with self._lock:
            self._points += 1
            return None if self._leaves else self._points == self._stop_at

    def begin(self, seconds: float) -> None:
        """Tells all processes to stop, and agrees with them in the background within some seconds."""
        self._agreeing = threading.Thread(target=self._agree, args=(seconds,), name="agree", daemon=True)
        self._agreeing.start()

    def close(self, seconds: float) -> None:
        """Ends listening, after an agreement in progress or at most some seconds."""
        self._closed.set()
        if threading.current_thread() is not self._listening:
            self._listening.join()
        if self._agreeing:
            self._agreeing.join(seconds)

    def _listen(self) -> None:
        while not self._closed.wait(_LISTEN_SECONDS):
            try:
                self._client.key_value_try_get(self._prefix)
            except jax.errors.JaxRuntimeError:  # not told yet, or the coordinator is busy
                continue
            self._heard()
            return

    def _agree(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._lock:
            try:
                self._client.key_value_set(self._prefix, "stop", allow_overwrite=True)
                mine = _LEAVING if self._idle else str(self._points)
                self._client.key_value_set(f"{self._prefix}/{jax.process_index()}", mine, allow_overwrite=True)
                counts = []
                for index in range(jax.process_count()):
                    left = max(1, int(1000 * (deadline - time.monotonic())))
                    counts.append(self._client.blocking_key_value_get(f"{self._prefix}/{index}", left))
            except jax.errors.JaxRuntimeError:  # a process is gone, or silent
                counts = [_LEAVING]
            self._leaves = _LEAVING in counts
            self._stop_at = None if self._leaves else 1 + max(int(count) for count in counts)
