"""Device memory: what a program needs, what a device has, and how many microbatches make a step fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

T = TypeVar("T")

# The TPU compiler's refusals: "Ran out of memory in memory space hbm. Used 61.27G of 15.75G hbm." and "the total memory
# required for HLO temporaries (128.00G) exceeds available HBM (15.75G)".
_REFUSAL = re.compile(
    r"(?:Used |HLO temporaries \()([\d.]+)([KMGT]?)(?: of |\) exceeds available HBM \()([\d.]+)([KMGT]?)"
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class DeviceMemoryError(RuntimeError):
    """A program needs more memory than a device has.

    Attributes:
      needed: bytes on each device.
      available: bytes that a device has for programs.
    """

    def __init__(self, needed: int, available: int, program: str = "the program") -> None:
        times = needed / available
        super().__init__(
            f"{program} needs {needed / 2**30:.3g} GiB on each device, which has {available / 2**30:.3g} GiB; what "
            f"would fit: a batch_size (of an evaluation: evaluation.batch_size) about {times:.2g} times smaller; in "
            "training as many times more accumulation_steps (auto finds the number), or model.remat of the first rows "
            "of blocks"
        )
        self.needed, self.available = needed, available


def device_memory(configured_gib: float, resident: int = 0) -> int | None:
    """Returns the bytes that a program may take on a device, None if unknown.

    Args:
      configured_gib: if not 0, these.
      resident: bytes of the device's own memory that other things than the program will take.
    """
    if configured_gib:
        return int(configured_gib * 2**30)
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit - resident if limit else None


def program_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the bytes of device memory that a compiled program needs, its arguments and results included."""
    memory: Any = compiled.memory_analysis()
    return int(
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def compile_within(lowered: jax.stages.Lowered, available: int | None) -> jax.stages.Compiled:
    """Compiles a program.

    Raises:
      DeviceMemoryError: if it needs more than is available, by its memory analysis or by the compiler's own refusal.
    """
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        refusal = _REFUSAL.search(str(error))
        if not refusal:
            raise
        needed, there = (int(float(refusal[i]) * _UNITS[refusal[i + 1]]) for i in (1, 3))
        raise DeviceMemoryError(needed, there) from None
    if available and program_bytes(compiled) > available:
        raise DeviceMemoryError(program_bytes(compiled), available)
    return compiled


def accumulation_choices(batch_size: int, devices: int) -> tuple[int, ...]:
    """Returns the numbers of microbatches that leave each device whole images."""
    share = batch_size // devices
    return tuple(parts for parts in range(1, share + 1) if share % parts == 0)


def smallest_fitting(choices: Sequence[int], attempt: Callable[[int], T]) -> tuple[int, T]:
    """Returns the first of the ascending numbers of microbatches whose attempt fits, and what it gave.

    Memory that n microbatches need is at least that of one divided by n, so choices known to be too few are skipped.

    Raises:
      DeviceMemoryError: if none fits, that of the last attempt.
    """
    rest = list(choices)
    while True:
        parts = rest[0]
        try:
            return parts, attempt(parts)
        except DeviceMemoryError as error:
            least = parts * error.needed / error.available
            rest = [choice for choice in rest if choice > parts and choice >= least]
            if not rest:
                raise
