"""TPU generations as rows of data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip. Source: the "system architecture" pages of cloud.google.com/tpu/docs.

    Attributes:
      name: of the generation.
      peak_flops: bfloat16 floating-point operations a second.
      flops_per_cycle: of all its matrix units; with `peak_flops` this gives the clock.
      hbm_bytes: of memory that programs may take. Source: the TPU compiler's refusal of a program that takes too much.
      hbm_bandwidth: bytes a second.
      cores_in_name: whether the number in an accelerator's name counts cores, two a chip, instead of chips.
      devices: JAX devices a chip; where there are two, each has half of the chip.
      dimensions: of the grid in which chips are connected.
      most: chips of the largest slice.
      kinds: what `jax.Device.device_kind` calls it.
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
        """Cycles a second."""
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


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip of a JAX device's kind, or None where it is none of `CHIPS`."""
    return next((chip for chip in _ROWS if device_kind in chip.kinds), None)
