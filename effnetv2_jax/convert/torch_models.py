"""The PyTorch networks themselves, where their packages are installed: the other side of a verification."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import safetensors.numpy

from effnetv2_jax.convert.architectures import Architecture
from effnetv2_jax.convert.names import Convention


def foreign_logits(
    target: Convention, known: Architecture, num_classes: int, file: Path, images: np.ndarray
) -> tuple[str, np.ndarray] | None:
    """Loads a safetensors file strictly into the framework's own network and runs it.

    Args:
      target: whose network.
      known: which of its networks.
      num_classes: outputs; 0 for the pooled features.
      file: what the network is to load.
      images: float32 `[N, H, W, 3]`.

    Returns:
      What ran, with its version, and the logits `[N, num_classes]`; None where the package or the network is missing.
    """
    if target not in _BUILDERS or known.name is None:
        return None
    try:
        torch, package = (importlib.import_module(name) for name in ("torch", target))
    except ImportError:
        return None
    model = _BUILDERS[target](torch, package, known.name, num_classes)
    state = safetensors.numpy.load_file(file)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    model.eval()
    with torch.inference_mode():
        logits = model(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).numpy()
    return f"{target} {package.__version__} {known.name}", logits


def _timm(torch: Any, package: Any, name: str, num_classes: int) -> Any:
    return package.create_model(name, pretrained=False, num_classes=num_classes)


def _torchvision(torch: Any, package: Any, name: str, num_classes: int) -> Any:
    if num_classes:
        return package.models.get_model(name, weights=None, num_classes=num_classes)
    model = package.models.get_model(name, weights=None)
    model.classifier = torch.nn.Identity()
    return model


_BUILDERS: Mapping[str, Callable[[Any, Any, str, int], Any]] = MappingProxyType(
    {"timm": _timm, "torchvision": _torchvision}
)
