"""The names, layouts and formats that the frameworks built on PyTorch share, and the way to run their networks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy

from effnetv2_jax.convert.frameworks.framework import FormatName
from effnetv2_jax.convert.frameworks.layout import Layout
from effnetv2_jax.convert.tensors import Kind, Leaf

FORMATS: tuple[FormatName, ...] = ("safetensors", "huggingface", "pth")

# Convolutions are [O, I, k, k], depthwise ones [C, 1, k, k], and linear layers [O, I].
LAYOUTS: Mapping[Kind, Layout] = MappingProxyType(
    {
        "conv": Layout((3, 2, 0, 1)),
        "depthwise": Layout((3, 2, 0, 1)),
        "squeeze": Layout((3, 2, 0, 1)),
        "dense": Layout((1, 0)),
        "vector": Layout((0,)),
    }
)

LEAVES: Mapping[Leaf, str] = MappingProxyType(
    {
        "kernel": "weight",
        "depthwise_kernel": "weight",
        "bias": "bias",
        "scale": "weight",
        "offset": "bias",
        "mean": "running_mean",
        "variance": "running_var",
    }
)


def run_network(
    package: str,
    build: Callable[[Any, str, int], Any],
    name: str,
    num_classes: int,
    file: Path,
    images: np.ndarray,
) -> tuple[str, np.ndarray]:
    """Loads a safetensors file strictly into a package's network and runs it.

    Args:
      package: the package to import.
      build: builds a network, given the package, the network's name and the number of classes.
      name: the network's name.
      num_classes: number of outputs; 0 for the pooled features.
      file: the file to load.
      images: float32 `[N, H, W, 3]`.

    Returns:
      The network's name with the package's version, and the logits `[N, num_classes]`.

    Raises:
      ImportError: if PyTorch or the package is not installed.
    """
    torch, module = importlib.import_module("torch"), importlib.import_module(package)
    network = build(module, name, num_classes)
    state = safetensors.numpy.load_file(file)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=True)
    network.eval()
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).numpy()
    return f"{package} {module.__version__} {name}", logits
