"""How the axes of a tensor are ordered in each framework."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from effnetv2_jax.convert.names import Kind

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A foreign order of axes: its axis k is our axis `axes[k]`; `flat` leaves out the last two, of length 1."""

    axes: tuple[int, ...]
    flat: bool = False

    def shape(self, ours: Shape) -> Shape:
        """Returns the foreign shape of one of ours."""
        foreign = tuple(ours[axis] for axis in self.axes)
        return foreign[:-2] if self.flat else foreign

    def foreign(self, ours: np.ndarray) -> np.ndarray:
        """Returns one of our tensors in the foreign layout, contiguous."""
        return np.ascontiguousarray(ours.transpose(self.axes)).reshape(self.shape(ours.shape))

    def ours(self, foreign: np.ndarray) -> np.ndarray:
        """Returns a copy of a foreign tensor in our layout: float32, contiguous, and aligned for JAX."""
        if self.flat:
            foreign = foreign.reshape(*foreign.shape, 1, 1)
        turned = foreign.transpose([int(axis) for axis in np.argsort(self.axes)])
        ours = _aligned(turned.shape)
        ours[...] = turned
        return ours


def _aligned(shape: Shape) -> np.ndarray:
    """Returns an uninitialised float32 array at a multiple of 64 bytes: JAX on a CPU uses such a one without a copy."""
    size = 4 * int(np.prod(shape))
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(np.float32).reshape(shape)


# Ours: kernels [k, k, I, O], depthwise [k, k, 1, C], dense [I, O], as Flax; the squeeze is [1, 1, I, O].
_OURS: dict[Kind, Layout] = {
    "conv": Layout((0, 1, 2, 3)),
    "depthwise": Layout((0, 1, 2, 3)),
    "squeeze": Layout((0, 1, 2, 3)),
    "dense": Layout((0, 1)),
    "vector": Layout((0,)),
}
# TensorFlow's depthwise kernel is [k, k, C, 1].
_TENSORFLOW = _OURS | {"depthwise": Layout((0, 1, 3, 2))}
# PyTorch's kernels are [O, I, k, k], depthwise [C, 1, k, k], linear [O, I].
_TORCH = _OURS | dict.fromkeys(("conv", "depthwise", "squeeze"), Layout((3, 2, 0, 1))) | {"dense": Layout((1, 0))}
# The article's squeeze is two linear layers.
_ARTICLE = _TORCH | {"squeeze": Layout((3, 2, 0, 1), flat=True)}

LAYOUTS: Mapping[str, Mapping[Kind, Layout]] = MappingProxyType(
    {"flax": _OURS, "official": _TENSORFLOW, "timm": _TORCH, "torchvision": _TORCH, "article": _ARTICLE}
)
