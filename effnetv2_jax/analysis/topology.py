"""TPU slices, named by an accelerator type such as v4-32 or by a grid of chips such as v5e:2x4."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
from jax.sharding import Mesh

from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.chips import CHIPS, Chip

_ALIASES = MappingProxyType({"v5litepod": "v5e", "v5lite": "v5e"})

# Options that the TPU compiler needs for some slices, by generation and grid; "" stands for every grid. Without
# "megacore", v4 would have two devices for each chip, unlike a real v4. A slice of one or eight chips on one host needs
# the bounds of that host.
_COMPILER_OPTIONS: Mapping[tuple[str, str], Mapping[str, Any]] = MappingProxyType(
    {
        ("v4", ""): {"chip_config_name": "megacore"},
        ("v5e", "1x1"): {"chips_per_host_bounds": (1, 1, 1)},
        ("v5e", "2x4"): {"chips_per_host_bounds": (2, 4, 1)},
        ("v6e", "1x1"): {"chips_per_host_bounds": (1, 1, 1)},
        ("v6e", "2x4"): {"chips_per_host_bounds": (2, 4, 1)},
    }
)


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice, or several equal slices that the data-centre network connects.

    Attributes:
      chip: the generation of the chips.
      grid: number of chips of a slice along each dimension.
      slices: number of slices.
    """

    chip: Chip
    grid: tuple[int, ...]
    slices: int = 1

    @property
    def chips(self) -> int:
        """Number of chips of all slices."""
        return self.slices * math.prod(self.grid)

    @property
    def devices(self) -> int:
        """Number of JAX devices."""
        return self.chips * self.chip.devices

    @property
    def name(self) -> str:
        """The generation and the grid, as in v5e:2x4, after the number of slices if there are several: 2xv5e:2x4."""
        several = f"{self.slices}x" if self.slices > 1 else ""
        return f"{several}{self.chip.name}:{self.shape}"

    @property
    def shape(self) -> str:
        """The grid alone, as in 2x4."""
        return "x".join(map(str, self.grid))


def parse_topology(name: str) -> Topology:
    """Returns the slice for an accelerator type (v3-32, v4-8, v5litepod-16, v5p-8, v6e-8) or a grid (v5e:2x4).

    A number before the name means several slices: 2xv5e-16, 2xv5e:4x4. An accelerator type stands for the most compact
    grid, as on Cloud TPU.

    Raises:
      ValueError: for an unknown generation, a number of chips that no slice has, or a malformed name.
    """
    match = re.fullmatch(r"(?:([1-9]\d*)x)?([a-z]\w*?)(?:-(\d+)|:(\d+(?:x\d+)*))", name)
    chip = CHIPS.get(_ALIASES.get(match[2], match[2])) if match else None
    if match is None or chip is None:
        raise ValueError(f"unknown TPU {name!r}; {_known()}")
    slices = int(match[1] or 1)
    if match[3]:
        cores = 2 if chip.cores_in_name else 1
        chips = int(match[3]) // cores
        least = 4 if chip.cores_in_name else 1
        if int(match[3]) % cores or not least <= chips <= chip.most or chips & (chips - 1):
            raise ValueError(f"{name!r} is not a slice: {_sizes(chip)}")
        return Topology(chip, _grid(chips, chip.dimensions), slices)
    grid = tuple(map(int, match[4].split("x")))
    if len(grid) != chip.dimensions or min(grid) < 1 or math.prod(grid) > chip.most:
        raise ValueError(
            f"{name!r} is not a grid of {chip.name}, which has {chip.dimensions} dimensions and at most {chip.most} "
            f"chips, as in {_example(chip)}"
        )
    return Topology(chip, grid, slices)


def describe(topology: Topology) -> Any:
    """Returns the TPU compiler's description of a slice. It needs no TPU and uses none.

    Raises:
      RuntimeError: if the TPU compiler is not installed, or does not support the slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise RuntimeError("compiling for a TPU needs the extra 'aot' (Linux, x86-64): pip install 'effnetv2_jax[aot]'")
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    if not any(any(Path("/dev").glob(pattern)) for pattern in _TPU_FILES):
        # Lets several plans run at the same time. On a machine with a TPU, libtpu's own lock stays in place.
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.experimental import topologies

    options = {
        **_COMPILER_OPTIONS.get((topology.chip.name, ""), {}),
        **_COMPILER_OPTIONS.get((topology.chip.name, topology.shape), {}),
        **({"num_slices": topology.slices} if topology.slices > 1 else {}),
    }
    try:
        return topologies.get_topology_desc(f"{topology.chip.name}:{topology.shape}", platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise RuntimeError(f"the TPU compiler does not accept {topology.name}: {str(error).splitlines()[0]}") from error


def make_mesh(topology: Topology) -> Mesh:
    """Returns the mesh that training would use on the slice: one axis, `data`, over all devices."""
    return sharding.make_mesh(describe(topology).devices)


# Device files in /dev of a machine with a TPU.
_TPU_FILES = ("accel*", "vfio/[0-9]*")

# Without these variables, libtpu asks Google Cloud's metadata server which TPU it runs on.
_ENVIRONMENT = MappingProxyType(
    {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_STDERR_LOG_LEVEL": "3",
        "TPU_MIN_LOG_LEVEL": "3",
    }
)


def _grid(chips: int, dimensions: int) -> tuple[int, ...]:
    """Returns the most compact grid with powers of two as sides, smaller sides first.

    A three-dimensional grid of at most four chips is flat: its last side is 1.
    """
    exponent = chips.bit_length() - 1
    if dimensions == 3 and exponent <= 2:
        return (*_grid(chips, 2), 1)
    small, larger = divmod(exponent, dimensions)
    return (2**small,) * (dimensions - larger) + (2 ** (small + 1),) * larger


def _sizes(chip: Chip) -> str:
    counted, least, cores = ("cores", 8, 2) if chip.cores_in_name else ("chips", 1, 1)
    return f"{chip.name} takes a number of {counted} that is a power of two from {least} to {cores * chip.most}"


def _example(chip: Chip) -> str:
    return f"{chip.name}:{'2x2x4' if chip.dimensions == 3 else '4x4'}"


def _known() -> str:
    types = ", ".join(f"{chip.name}-{32 if chip.cores_in_name else 8}" for chip in CHIPS.values())
    return (
        f"known: {types} (v5litepod-8 is v5e-8) and other powers of two, grids such as v5e:2x4 and v4:2x2x4, "
        "and several slices, as in 2xv5e-8"
    )
