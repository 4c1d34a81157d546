"""TPU generations as rows of data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import jax


@dataclasses.dataclass(frozen=True)
class Chip:
    """A TPU chip.

    Source: the "system architecture" pages of cloud.google.com/tpu/docs; for `hbm_bytes`, the TPU compiler's error
    message for a program that is too large.

    Attributes:
      name: the generation.
      peak_flops: bfloat16 floating-point operations per second.
      flops_per_cycle: floating-point operations of all matrix units together in a cycle.
      hbm_bytes: bytes of memory that programs may use.
      hbm_bandwidth: bytes per second between that memory and the chip's cores.
      cores_in_name: whether the number in an accelerator type such as v4-8 counts cores, two for each chip.
      devices: JAX devices per chip; two devices share a chip's peak and memory equally.
      dimensions: number of dimensions of the grid in which chips are connected.
      most: number of chips in the largest slice.
      kinds: values of `jax.Device.device_kind` for this chip.
    """

    name: str
    peak_flops: float
    flops_per_cycle: float
    hbm_bytes: float
    hbm_bandwidth: float
    cores_in_name: bool
    devices: int
    dimensions: int
    most: int
    kinds: tuple[str, ...]

    @property
    def clock(self) -> float:
        """Cycles per second."""
        return self.peak_flops / self.flops_per_cycle


_GIB = 2**30

_ROWS = (
    Chip("v3", 123e12, 4 * 2 * 128**2, 2 * 15.48 * _GIB, 900e9, True, 2, 2, 1024, ("TPU v3",)),
    Chip("v4", 275e12, 8 * 2 * 128**2, 30.75 * _GIB, 1228e9, True, 1, 3, 4096, ("TPU v4",)),
    Chip("v5e", 197e12, 4 * 2 * 128**2, 15.75 * _GIB, 819e9, False, 1, 2, 256, ("TPU v5 lite", "TPU v5e")),
    Chip("v5p", 459e12, 8 * 2 * 128**2, 95.74 * _GIB, 2765e9, True, 1, 3, 8960, ("TPU v5", "TPU v5p")),
    Chip("v6e", 918e12, 4 * 2 * 256**2, 31.25 * _GIB, 1640e9, False, 1, 2, 256, ("TPU v6 lite", "TPU v6e")),
)
CHIPS: Mapping[str, Chip] = MappingProxyType({chip.name: chip for chip in _ROWS})


def device_name(device: jax.Device) -> str:
    """Returns the generation of a TPU that is in `CHIPS`, such as v5e, and the platform of other devices."""
    chip = chip_of(device.device_kind)
    return chip.name if chip else str(device.platform)


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip with a JAX device kind, or None if it is not in `CHIPS`."""
    return next((chip for chip in _ROWS if device_kind in chip.kinds), None)
