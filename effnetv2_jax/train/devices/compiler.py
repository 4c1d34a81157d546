"""Programs compiled once, ahead of their first call, the later ones while the earlier ones run."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from effnetv2_jax.train.devices.memory import DeviceMemoryError, compile_within, program_bytes, smallest_fitting
from effnetv2_jax.train.programs import Source

_CACHE_HIT = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass
class Program:
    """A program to compile, and what became of it.

    Attributes:
      source: number of microbatches → the program.
      choices: the numbers of microbatches to try until one fits.
      microbatches: the one taken.
      function: the jitted function, once compiled.
      device_bytes: of memory that it needs.
      from_cache: whether the persistent cache had it.
      waited_seconds: how long the run stood still for it.
      traces: times that the function taken was traced.
    """

    source: Callable[[int], Source]
    choices: Sequence[int]
    lowered: jax.stages.Lowered | None = None
    function: Any = None
    microbatches: int = 0
    device_bytes: int = 0
    lower_seconds: float = 0.0
    compile_seconds: float = 0.0
    waited_seconds: float = 0.0
    from_cache: bool = False
    traces: int = 0

    def lower(self, microbatches: int) -> jax.stages.Lowered:
        """Traces and lowers the program for a number of microbatches."""
        source = self.source(microbatches)
        self.traces = 0

        def traced(*values: Any) -> Any:
            self.traces += 1
            return source.function(*values)

        start = time.perf_counter()
        self.function = jax.jit(traced, **source.options)
        lowered = self.function.lower(*source.arguments)
        self.lower_seconds += time.perf_counter() - start
        return lowered


class RetraceError(RuntimeError):
    """A program was traced again: something that should be static changed."""


class Programs:
    """Compiles programs in one background thread; all are lowered first. A context: leaving it drops what has not
    started to compile. `available` bytes of device memory bound each program, None nothing.
    """

    def __init__(self, available: int | None = None) -> None:
        self._available = available
        self._programs: dict[str, Program] = {}
        self._compiled: dict[str, concurrent.futures.Future[None]] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "compile")

    def add(self, name: str, source: Callable[[int], Source], choices: Sequence[int] = (1,)) -> None:
        """Lowers a program for the shapes it is called with, in the first of the numbers of microbatches."""
        program = self._programs[name] = Program(source, choices)
        program.lowered = program.lower(choices[0])

    def compile_all(self, first: str = "") -> None:
        """Starts compiling in the background, in the order added, but for the one that goes first."""
        order = sorted(self._programs, key=lambda name: name != first)
        self._compiled = {name: self._thread.submit(self._compile, name) for name in order}

    def get(self, name: str) -> Callable[..., Any]:
        """Returns a program's function, waiting until it is compiled.

        Raises:
          DeviceMemoryError: if it fits in none of its numbers of microbatches.
        """
        program = self._programs[name]
        start = time.perf_counter()
        self._compiled[name].result()
        program.waited_seconds += time.perf_counter() - start
        return program.function

    def check_retraces(self, warn: Callable[[str], None] | None) -> None:
        """Warns of each program that was traced more than the once that lowering takes, without `warn` raises.

        Raises:
          RetraceError: without `warn`.
        """
        for name, program in self._programs.items():
            if program.traces > 1:
                text = f"the program {name!r} was traced {program.traces} times instead of once"
                if warn is None:
                    raise RetraceError(text)
                warn(text)
                program.traces = 1  # said once a retrace

    def facts(self) -> dict[str, dict[str, Any]]:
        """Returns name → seconds to lower, to compile and waited for, microbatches, memory, and if the cache had it."""
        return {
            name: {
                "lower_seconds": round(program.lower_seconds, 3),
                "compile_seconds": round(program.compile_seconds, 3),
                "waited_seconds": round(program.waited_seconds, 3),
                "from_cache": program.from_cache,
                "accumulation_steps": program.microbatches,
                "device_bytes": program.device_bytes,
            }
            for name, program in self._programs.items()
        }

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _compile(self, name: str) -> None:
        program = self._programs[name]
        start = time.perf_counter()
        hits = _cache_hits()

        def attempt(microbatches: int) -> int:
            lowered, program.lowered = program.lowered or program.lower(microbatches), None
            # Compiling fills the jitted function's own cache: its first call compiles nothing.
            return program_bytes(compile_within(lowered, self._available))

        try:
            program.microbatches, program.device_bytes = smallest_fitting(program.choices, attempt)
        except DeviceMemoryError as error:
            raise DeviceMemoryError(error.needed, error.available, name) from None
        program.from_cache = _cache_hits() > hits
        program.compile_seconds = time.perf_counter() - start


def enable_cache(folder: str) -> None:
    """Keeps compiled programs in a folder (a path or `gs://…`) between runs; "" keeps none."""
    if folder:
        path = folder if "://" in folder else str(pathlib.Path(folder).expanduser())
        jax.config.update("jax_compilation_cache_dir", path)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


_hits = threading.local()


def _cache_hits() -> int:
    """Returns how many programs this thread has taken from the persistent cache."""
    return getattr(_hits, "count", 0)


def _listen(event: str, **_: Any) -> None:
    if event == _CACHE_HIT:
        _hits.count = _cache_hits() + 1


jax.monitoring.register_event_listener(_listen)  # at import: JAX keeps a listener for good, so it must be one
