"""Times exported programs in their runtimes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from effnetv2_jax.export.exporter import byte_size
from effnetv2_jax.export.formats import format_of

_LEAST_CALLS = 5


def program_speed(path: Path, batch_size: int = 8, seconds: float = 3.0) -> dict[str, Any]:
    """Returns the figures of an exported program, timed on this machine.

    Args:
      path: the exported file or folder.
      batch_size: images in a batch for the throughput.
      seconds: how long to time each batch size, after a first call that is not counted.

    Returns:
      `file`, `format` and `runtime`; `bytes`, its size; `load_seconds`, until the first batch of one image is done;
      `latency_seconds`, for one image; `images_per_second`, in batches, and `batch_size`; `cpu_seconds`, the time of
      all cores for one image of a batch. All are of the fastest call, which other work on the machine disturbs least.

    Raises:
      ValueError: if the path is no exported program.
      ModuleNotFoundError: if the runtime is not installed.
      FileNotFoundError: if the path does not exist.
    """
    known = format_of(path)
    known.implementation()  # its import is not part of the loading
    start = time.perf_counter()
    program = known.load(path)
    images = np.random.default_rng(0).integers(0, 256, (batch_size, *program.image_shape)).astype(program.image_dtype)
    program.run(images[:1])
    loaded = time.perf_counter() - start
    latency, _ = _fastest_call(program.run, images[:1], seconds)
    whole, cpu = _fastest_call(program.run, images, seconds)
    return {
        "file": path.name,
        "format": known.name,
        "runtime": program.runtime,
        "bytes": byte_size(path),
        "load_seconds": loaded,
        "latency_seconds": latency,
        "batch_size": batch_size,
        "images_per_second": batch_size / whole,
        "cpu_seconds": cpu / batch_size,
    }


def _fastest_call(run: Any, images: np.ndarray, seconds: float) -> tuple[float, float]:
    """Returns the seconds of the fastest call, and the CPU seconds of the one that took the least."""
    run(images)
    times: list[float] = []
    cpu_times: list[float] = []
    while len(times) < _LEAST_CALLS or sum(times) < seconds:
        start, cpu_start = time.perf_counter(), time.process_time()
        run(images)
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    return min(times), min(cpu_times)
