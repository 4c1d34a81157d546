"""Checks the tensors of a file: every tensor of the network, and no other, in its shape and with a floating type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.convert.frameworks.framework import Framework
from effnetv2_jax.convert.tensors import Tensor

_NAMED = 6  # greatest number of tensors that an error names for each fault


def check_names(shapes: Mapping[str, tuple[int, ...]], tensors: Sequence[Tensor], framework: Framework) -> None:
    """Checks that `shapes` has every tensor of a network in its shape, and no other.

    PyTorch's step counters are optional.

    Args:
      shapes: the shapes of the tensors by the framework's names.
      tensors: the tensors of the network.
      framework: the framework that the names and shapes belong to.

    Raises:
      ValueError: if they differ; the message names missing, unknown and misshapen tensors.
    """
    expected = {framework.name_of(tensor): framework.shape_of(tensor) for tensor in tensors}
    optional = set(framework.counter_names(tensors))
    missing = [name for name in expected if name not in shapes]
    unknown = [name for name in shapes if name not in expected and name not in optional]
    misshapen = [
        f"{name} is {list(shapes[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    faults = [
        f"{len(names)} {fault}: {', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''}"
        for fault, names in (("missing", missing), ("unknown", unknown), ("misshapen", misshapen))
        if names
    ]
    if faults:
        raise ValueError("; ".join(faults))


def read_tensors(file: TensorFile, tensors: Sequence[Tensor], framework: Framework) -> dict[str, np.ndarray]:
    """Reads tensors as `read_tensor` does, and returns them by path."""
    return {tensor.path: read_tensor(file, tensor, framework) for tensor in tensors}


def read_tensor(file: TensorFile, tensor: Tensor, framework: Framework) -> np.ndarray:
    """Reads a tensor and returns it in the layout of our variables, as float32.

    Raises:
      ValueError: if its type is not float32, float16 or bfloat16.
    """
    name = framework.name_of(tensor)
    value = file.read(name)
    if value.dtype.name not in ("float32", "float16", "bfloat16"):
        raise ValueError(f"{name} is {value.dtype.name}; weights must be float32, float16 or bfloat16")
    return framework.layout_of(tensor).to_flax(value)
