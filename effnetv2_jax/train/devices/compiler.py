"""Compiles each program once and before its first call; later programs compile while earlier ones run."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from effnetv2_jax.paths import in_bucket
from effnetv2_jax.train.devices.memory import (
    DeviceMemoryError,
    UnknownOptionError,
    compile_within,
    program_bytes,
    smallest_fitting,
)
from effnetv2_jax.train.devices.program import Program

ProgramOf = Callable[[int], Program]
"""Number of microbatches → the program."""

_WAIT_SECONDS = 0.5
_CACHE_HIT = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass
class _Compilation:
    """A program, how to make it, and what compiling it took.

    `lowered` is set until the program starts to compile, and `compiled` once it is compiled.
    """

    program_of: ProgramOf
    choices: Sequence[int]
    compiler_options: dict[str, str] = dataclasses.field(default_factory=dict)
    refused_options: list[str] = dataclasses.field(default_factory=list)
    lowered: jax.stages.Lowered | None = None
    compiled: jax.stages.Compiled | None = None
    microbatches: int = 0
    lower_seconds: float = 0.0
    compile_seconds: float = 0.0
    waited_seconds: float = 0.0
    from_cache: bool = False

    def lower(self, microbatches: int) -> jax.stages.Lowered:
        start = time.perf_counter()
        program = self.program_of(microbatches)
        lowered = program.lower()
        self.compiler_options = {
            name: value for name, value in program.compiler_options.items() if name not in self.refused_options
        }
        self.lower_seconds += time.perf_counter() - start
        return lowered

    def compile(self, microbatches: int, available: int | None) -> jax.stages.Compiled:
        """Compiles the program, without the options that the compiler does not know."""
        lowered, self.lowered = self.lowered or self.lower(microbatches), None
        while True:
            try:
                return compile_within(lowered, available, self.compiler_options)
            except UnknownOptionError as error:
                self.refused_options.append(error.name)
                del self.compiler_options[error.name]


class BackgroundCompiler:
    """Compiles programs in one background thread, after all of them were lowered.

    It is a context: leaving it drops the programs that have not started to compile, and does not wait for the one that
    has. Each program may use `available` bytes of device memory; None sets no limit.
    """

    def __init__(self, available: int | None = None) -> None:
        self._available = available
        self._compilations: dict[str, _Compilation] = {}
        self._done: dict[str, concurrent.futures.Future[None]] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "compile")

    def add(self, name: str, program_of: ProgramOf, choices: Sequence[int] = (1,)) -> None:
        """Lowers a program for the first of `choices`, the numbers of microbatches to try."""
        compilation = self._compilations[name] = _Compilation(program_of, choices)
        compilation.lowered = compilation.lower(choices[0])

    def compile_all(self, first: str = "") -> None:
        """Starts to compile in the background: the program named `first`, then the others in the order added."""
        order = sorted(self._compilations, key=lambda name: name != first)
        self._done = {name: self._thread.submit(self._compile, name) for name in order}

    def get(self, name: str, waiting: Callable[[], None] = lambda: None) -> jax.stages.Compiled:
        """Returns a compiled program, and waits for it if necessary. It refuses arguments of other shapes.

        Args:
          name: the program.
          waiting: called every half second while the program is not ready.

        Raises:
          DeviceMemoryError: if it does not fit with any of its numbers of microbatches.
        """
        compilation = self._compilations[name]
        start = time.perf_counter()
        while not self._done[name].done():
            waiting()
            concurrent.futures.wait([self._done[name]], timeout=_WAIT_SECONDS)
        self._done[name].result()
        compilation.waited_seconds += time.perf_counter() - start
        assert compilation.compiled is not None
        return compilation.compiled

    def figures(self) -> dict[str, dict[str, Any]]:
        """Returns each program's figures by its name.

        They are the seconds spent on lowering it, compiling it and waiting for it, whether it comes from the cache, the
        number of microbatches, the compiler's options, those that it did not know, and the bytes of device memory that
        it needs.
        """
        return {
            name: {
                "lower_seconds": round(compilation.lower_seconds, 3),
                "compile_seconds": round(compilation.compile_seconds, 3),
                "waited_seconds": round(compilation.waited_seconds, 3),
                "from_cache": compilation.from_cache,
                "accumulation_steps": compilation.microbatches,
                "compiler_options": compilation.compiler_options,
                "refused_options": compilation.refused_options,
                "device_bytes": program_bytes(compilation.compiled) if compilation.compiled else 0,
            }
            for name, compilation in self._compilations.items()
        }

    def __enter__(self) -> BackgroundCompiler:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _compile(self, name: str) -> None:
        compilation = self._compilations[name]
        start = time.perf_counter()
        hits = _cache_hits()
        try:
            compilation.microbatches, compilation.compiled = smallest_fitting(
                compilation.choices, lambda microbatches: compilation.compile(microbatches, self._available)
            )
        except DeviceMemoryError as error:
            raise DeviceMemoryError(error.needed, error.available, name) from None
        compilation.from_cache = _cache_hits() > hits
        compilation.compile_seconds = time.perf_counter() - start


def enable_cache(folder: str) -> None:
    """Keeps compiled programs between runs in a folder, given as a path or `gs://…`; "" keeps none."""
    if folder:
        path = folder if in_bucket(folder) else str(pathlib.Path(folder).expanduser())
        jax.config.update("jax_compilation_cache_dir", path)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


_hits = threading.local()


def _cache_hits() -> int:
    """Returns how many programs this thread has taken from the persistent cache."""
    return getattr(_hits, "count", 0)


def _listen(event: str, **_: Any) -> None:
    if event == _CACHE_HIT:
        _hits.count = _cache_hits() + 1


jax.monitoring.register_event_listener(_listen)  # once, at import: JAX never removes a listener
