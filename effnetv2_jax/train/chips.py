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
      hbm_bytes: of memory.
      hbm_bandwidth: bytes a second.
      cores_in_name: whether the number in an accelerator's name counts cores, two a chip, instead of chips.
      devices: JAX devices a chip; where there are two, each has half of the chip.
      dimensions: of the grid in which chips are connected.
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
    kinds: tuple[str, ...]

    @property
    def clock(self) -> float:
        """Cycles a second."""
        return self.peak_flops / self.flops_per_cycle


_ROWS = (
    Chip("v3", 123e12, 4 * 2 * 128**2, 32e9, 900e9, True, 2, 2, ("TPU v3",)),
    Chip("v4", 275e12, 8 * 2 * 128**2, 32e9, 1228e9, True, 1, 3, ("TPU v4",)),
    Chip("v5e", 197e12, 4 * 2 * 128**2, 16e9, 819e9, False, 1, 2, ("TPU v5 lite", "TPU v5e")),
    Chip("v5p", 459e12, 8 * 2 * 128**2, 95e9, 2765e9, True, 1, 3, ("TPU v5", "TPU v5p")),
    Chip("v6e", 918e12, 4 * 2 * 256**2, 32e9, 1640e9, False, 1, 2, ("TPU v6 lite", "TPU v6e")),
)
CHIPS: Mapping[str, Chip] = MappingProxyType({chip.name: chip for chip in _ROWS})


def chip_of(device_kind: str) -> Chip | None:
    """Returns the chip of a JAX device's kind, or None where it is none of `CHIPS`."""
    return next((chip for chip in _ROWS if device_kind in chip.kinds), None)
