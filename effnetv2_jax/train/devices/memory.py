"""Device memory: what a program needs, what a device has, and how many microbatches make a program fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

T = TypeVar("T")

# The TPU compiler's error messages: "Ran out of memory in memory space hbm. Used 61.27G of 15.75G hbm." and "the total
# memory required for HLO temporaries (128.00G) exceeds available HBM (15.75G)".
_REFUSAL = re.compile(
    r"(?:Used |HLO temporaries \()([\d.]+)([KMGT]?)(?: of |\) exceeds available HBM \()([\d.]+)([KMGT]?)"
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class DeviceMemoryError(RuntimeError):
    """A program needs more memory than a device has.

    Attributes:
      needed: bytes that the program needs on each device.
      available: bytes that each device has for programs.
    """

    def __init__(self, needed: int, available: int, program: str = "the program") -> None:
        times = needed / available
        super().__init__(
            f"{program} needs {needed / 2**30:.3g} GiB on each device, which has {available / 2**30:.3g} GiB. To make "
            f"an evaluation fit, divide evaluation.batch_size by about {times:.2g}. To make a training stage fit, "
            "divide batch_size or multiply accumulation_steps by as much ('auto' finds the number), or list the first "
            "rows of blocks in model.remat"
        )
        self.needed, self.available = needed, available


def device_memory(configured_gib: float, resident: int = 0) -> int | None:
    """Returns the bytes that a program may use on a device, or None if that is unknown.

    Args:
      configured_gib: the bytes to return, in GiB; 0 takes the device's memory, less `resident`.
      resident: bytes of the device's memory that are needed for something else.
    """
    if configured_gib:
        return int(configured_gib * 2**30)
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit - resident if limit else None


def program_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the bytes of device memory that a compiled program needs, including its arguments and results."""
    memory: Any = compiled.memory_analysis()
    return int(
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.generated_code_size_in_bytes
    )


def compile_within(lowered: jax.stages.Lowered, available: int | None) -> jax.stages.Compiled:
    """Compiles a program that may use `available` bytes of device memory; None sets no limit.

    Raises:
      DeviceMemoryError: if it needs more, according to its memory analysis or the compiler's error message.
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
    """Returns the numbers of microbatches that give each device whole images."""
    share = batch_size // devices
    return tuple(microbatches for microbatches in range(1, share + 1) if share % microbatches == 0)


def smallest_fitting(choices: Sequence[int], attempt: Callable[[int], T]) -> tuple[int, T]:
    """Returns the smallest number of microbatches that fits, and the result of its attempt.

    A program with n microbatches needs at least 1/n of the memory of one that processes the whole batch at once, so
    numbers that cannot fit are skipped.

    Args:
      choices: numbers of microbatches, ascending.
      attempt: number of microbatches → result; raises DeviceMemoryError if the program does not fit.

    Raises:
      DeviceMemoryError: the error of the last attempt, if no number fits.
    """
    rest = list(choices)
    while True:
        microbatches = rest[0]
        try:
            return microbatches, attempt(microbatches)
        except DeviceMemoryError as error:
            least = microbatches * error.needed / error.available
            rest = [choice for choice in rest if choice > microbatches and choice >= least]
            if not rest:
                raise
