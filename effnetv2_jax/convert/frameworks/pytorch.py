"""The names, layouts and formats that the PyTorch frameworks share, and a function that runs their networks."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy

from effnetv2_jax.convert.frameworks.architecture import Architecture, NoNetwork
from effnetv2_jax.convert.frameworks.framework import FormatName
from effnetv2_jax.convert.frameworks.layout import Layout
from effnetv2_jax.convert.tensors import Kind, Leaf
from effnetv2_jax.model.specs import ModelSpec

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


Build = Callable[[Any, ModelSpec, Architecture, int], Any]
"""Builds a network, given the package, the spec, its architecture and the number of classes."""


def run_network(
    package: str,
    build: Build,
    spec: ModelSpec,
    architecture: Architecture,
    num_classes: int,
    file: Path,
    images: np.ndarray,
) -> tuple[str, np.ndarray]:
    """Loads a safetensors file strictly into a package's network and runs it.

    Args:
      package: the package to import.
      build: builds the network.
      spec: its spec.
      architecture: the framework's network of the spec.
      num_classes: number of outputs; 0 for the pooled features.
      file: the file to load.
      images: float32 `[N, H, W, 3]`.

    Returns:
      The package with its version and the call that builds the network, and the logits `[N, num_classes]`.

    Raises:
      NoNetwork: if PyTorch or the package is not installed, or cannot be imported.
    """
    torch, module = import_package("torch"), import_package(package)
    network = build(module, spec, architecture, num_classes)
    state = safetensors.numpy.load_file(file)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=True)
    network.eval()
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).numpy()
    return f"{package} {module.__version__} {architecture.call}", logits


def import_package(package: str) -> Any:
    """Imports PyTorch or a package of networks.

    Raises:
      NoNetwork: if it is not installed, cannot be imported, or would crash the process.
    """
    # torchvision and timm load Triton, PyTorch's compiler, which crashes the process if TensorFlow was imported first.
    if package not in ("torch", *sys.modules) and "tensorflow" in sys.modules and importlib.util.find_spec("triton"):
        raise NoNetwork(f"{package} cannot be imported after TensorFlow")
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise NoNetwork(f"{error.name or package} is not installed") from error
    except Exception as error:  # two packages that do not fit together fail in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NoNetwork(f"{package} cannot be imported: {reason}") from error
