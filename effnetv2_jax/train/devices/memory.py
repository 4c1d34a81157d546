"""Device memory: what a program needs, what a device has, and how many microbatches make a program fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import jax

T = TypeVar("T")

# The TPU compiler's error messages: "Ran out of memory in memory space hbm. Used 61.27G of 15.75G hbm." and "the total
# memory required for HLO temporaries (128.00G) exceeds available HBM (15.75G)".
_REFUSAL = re.compile(
    r"(?:Used |HLO temporaries \()([\d.]+)([KMGT]?)(?: of |\) exceeds available HBM \()([\d.]+)([KMGT]?)"
)
_UNKNOWN_OPTION = re.compile(r"No such compile option: '(\w+)'")
_LANES = 128
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


class UnknownOptionError(RuntimeError):
    """The compiler of the devices has no option of this name.

    Attributes:
      name: the option.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"the compiler has no option {name!r}")
        self.name = name


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


def compile_within(
    lowered: jax.stages.Lowered, available: int | None, compiler_options: Mapping[str, str] = MappingProxyType({})
) -> jax.stages.Compiled:
    """Compiles a program that may use `available` bytes of device memory; None sets no limit.

    Raises:
      DeviceMemoryError: if it needs more, according to its memory analysis or the compiler's error message.
      UnknownOptionError: if the compiler does not have one of the options.
    """
    try:
        compiled = lowered.compile(compiler_options=dict(compiler_options) or None)
    except jax.errors.JaxRuntimeError as error:
        if unknown := _UNKNOWN_OPTION.search(str(error)):
            raise UnknownOptionError(unknown[1]) from None
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


def automatic_choices(choices: Sequence[int], images_per_device: int, group_images: int = 0) -> tuple[int, ...]:
    """Returns the numbers of microbatches to try in turn where nothing is known of their speed.

    They begin with 128 images a device, if that is one of the choices: a TPU computes convolutions with the batch in
    its 128 lanes, and larger microbatches take longer for each image, because they do not fit its fast memory.

    Args:
      choices: numbers of microbatches, ascending.
      images_per_device: images of the whole batch on one device.
      group_images: images of a BatchNorm group on one device, if it spans several: microbatches have no fewer, unless
        the memory needs it.
    """
    count, rest = divmod(images_per_device, max(_LANES, group_images))
    preferred = rest == 0 and count in choices
    return tuple(choice for choice in choices if not preferred or choice >= count)


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
