"""The order in which a framework stores the axes of a tensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from effnetv2_jax.convert.tensors import Kind


@dataclasses.dataclass(frozen=True)
class Layout:
    """The order of a tensor's axes: axis k in the framework is axis `axes[k]` in Flax.

    If `flat`, the framework leaves out its last two axes, which have length 1.
    """

    axes: tuple[int, ...]
    flat: bool = False

    def shape(self, flax_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the framework's shape of a tensor that has `flax_shape` in Flax."""
        shape = tuple(flax_shape[axis] for axis in self.axes)
        return shape[:-2] if self.flat else shape

    def from_flax(self, array: np.ndarray) -> np.ndarray:
        """Returns a Flax tensor in the framework's layout, contiguous."""
        return np.ascontiguousarray(array.transpose(self.axes)).reshape(self.shape(array.shape))

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """Returns a copy of the framework's tensor in Flax's layout: float32, contiguous and aligned for JAX."""
        if self.flat:
            array = array.reshape(*array.shape, 1, 1)
        transposed = array.transpose([int(axis) for axis in np.argsort(self.axes)])
        copy = _aligned(transposed.shape)
        copy[...] = transposed
        return copy


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an uninitialised float32 array that starts at a multiple of 64 bytes.

    JAX uses such an array on a CPU without copying it.
    """
    size = 4 * int(np.prod(shape))
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)


# Convolutions are [k, k, I, O], depthwise ones [k, k, 1, C], those of a squeeze [1, 1, I, O], dense layers [I, O].
FLAX_LAYOUTS: Mapping[Kind, Layout] = MappingProxyType(
    {
        "conv": Layout((0, 1, 2, 3)),
        "depthwise": Layout((0, 1, 2, 3)),
        "squeeze": Layout((0, 1, 2, 3)),
        "dense": Layout((0, 1)),
        "vector": Layout((0,)),
    }
)
