"""Programs compiled once, ahead of their first call, the later ones while the earlier ones run."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

_CACHE_HIT = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass
class Program:
    """A jitted function, the shapes it is called with, and what its compilation cost in seconds.

    `waited` is how long the run stood still for it; `from_cache` tells whether the persistent cache had it.
    """

    name: str
    function: Any
    arguments: tuple[Any, ...]
    lower_seconds: float = 0.0
    compile_seconds: float = 0.0
    waited_seconds: float = 0.0
    from_cache: bool = False
    traces: int = 0


class RetraceError(RuntimeError):
    """A program was traced again: something that should be static changed."""


class Programs:
    """Compiles programs in the given order in one background thread; all are lowered first. A context: leaving it drops
    what has not started to compile.
    """

    def __init__(self) -> None:
        self._programs: dict[str, Program] = {}
        self._lowered: dict[str, Any] = {}
        self._compiled: dict[str, concurrent.futures.Future[None]] = {}
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "compile")

    def add(self, name: str, function: Callable[..., Any], arguments: tuple[Any, ...], **jit_options: Any) -> None:
        """Lowers a function for arguments of the given shapes (`jax.ShapeDtypeStruct` with shardings)."""
        program = Program(name, None, arguments)

        def traced(*values: Any) -> Any:
            program.traces += 1
            return function(*values)

        program.function = jax.jit(traced, **jit_options)
        start = time.perf_counter()
        self._lowered[name] = program.function.lower(*arguments)
        program.lower_seconds = time.perf_counter() - start
        self._programs[name] = program

    def compile_all(self) -> None:
        """Starts compiling, in the order added, in the background."""
        self._compiled = {name: self._thread.submit(self._compile, name) for name in self._programs}

    def get(self, name: str) -> Callable[..., Any]:
        """Returns a program's function, waiting until it is compiled."""
        program = self._programs[name]
        start = time.perf_counter()
        self._compiled[name].result()
        program.waited_seconds += time.perf_counter() - start
        return program.function

    def check_retraces(self) -> None:
        """Raises RetraceError if a program was traced more than the once that lowering takes."""
        for program in self._programs.values():
            if program.traces > 1:
                raise RetraceError(f"the program {program.name!r} was traced {program.traces} times instead of once")

    def facts(self) -> dict[str, dict[str, Any]]:
        """Returns name → seconds to lower, to compile and waited for, and whether it came from the cache."""
        return {
            program.name: {
                "lower_seconds": round(program.lower_seconds, 3),
                "compile_seconds": round(program.compile_seconds, 3),
                "waited_seconds": round(program.waited_seconds, 3),
                "from_cache": program.from_cache,
            }
            for program in self._programs.values()
        }

    def waited(self, name: str) -> float:
        """Returns the seconds that the run stood still for a program."""
        return self._programs[name].waited_seconds

    def __len__(self) -> int:
        return len(self._programs)

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _compile(self, name: str) -> None:
        program = self._programs[name]
        start = time.perf_counter()
        hits = _cache_hits()
        self._lowered.pop(name).compile()  # fills the jitted function's own cache: its first call compiles nothing
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


jax.monitoring.register_event_listener(_listen)
