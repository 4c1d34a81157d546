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
      `latency_seconds`, for one image; `images_per_second`, in batches, and `batch_size`. Both are of the fastest call,
      which other work on the machine disturbs least.

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
    return {
        "file": path.name,
        "format": known.name,
        "runtime": program.runtime,
        "bytes": byte_size(path),
        "load_seconds": loaded,
        "latency_seconds": _fastest_seconds(program.run, images[:1], seconds),
        "images_per_second": batch_size / _fastest_seconds(program.run, images, seconds),
        "batch_size": batch_size,
    }


def _fastest_seconds(run: Any, images: np.ndarray, seconds: float) -> float:
    run(images)
    times: list[float] = []
    while len(times) < _LEAST_CALLS or sum(times) < seconds:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return min(times)
