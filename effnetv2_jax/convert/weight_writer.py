"""The files that weights are written to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from effnetv2_jax.convert.formats.huggingface_folder import WEIGHTS, write_config
from effnetv2_jax.convert.formats.safetensors_file import write_safetensors
from effnetv2_jax.convert.frameworks.flax import FLAX
from effnetv2_jax.convert.frameworks.framework import Framework
from effnetv2_jax.convert.frameworks.table import check_structure
from effnetv2_jax.convert.tensor_check import check_names
from effnetv2_jax.convert.tensors import Tensor, network_tensors
from effnetv2_jax.model.provenance import FRAMEWORK_KEY, Provenance
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.version import __version__


def is_folder(path: Path) -> bool:
    """Whether a path means a Hugging Face folder: an existing folder, or a name without suffix."""
    return path.is_dir() or not path.suffix


def check_target(path: Path, spec: ModelSpec, framework: Framework) -> None:
    """Raises ValueError if a framework has no network like `spec`, or its weights cannot be written to `path`."""
    check_structure(framework, spec)
    if not is_folder(path):
        if path.suffix != ".safetensors":
            raise ValueError(f"{path}: weights are written to .safetensors files, not to {path.suffix} files")
    elif framework.folder_config is None:
        raise ValueError(f"{path}: {framework.name} weights are written to a .safetensors file, not to a folder")
    elif framework.architecture(spec).name is None:
        raise ValueError(
            f"{path}: {framework.name} has no name for {spec.name}, so its weights are written to a .safetensors file, "
            "not to a folder"
        )


def write_weights(
    path: Path, variables: Mapping[str, Any], provenance: Provenance, framework: Framework, *, folder: bool
) -> Path:
    """Writes variables as a framework's file, or folder, and returns the safetensors file.

    Raises:
      ValueError: if the variables are not those of the provenance's architecture.
    """
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    tensors = network_tensors(provenance.spec, provenance.num_classes)
    check_names({name: np.shape(leaf) for name, leaf in flat.items()}, tensors, FLAX)
    file = path / WEIGHTS if folder else path
    file.parent.mkdir(parents=True, exist_ok=True)
    entries = {framework.name_of(tensor): _entry(tensor, flat[tensor.path], framework) for tensor in tensors}
    write_safetensors(file, entries, _metadata(provenance, framework), framework.counter_names(tensors))
    name = framework.architecture(provenance.spec).name
    if folder and framework.folder_config and name:
        write_config(path, framework.folder_config(provenance, name))
    return file


def _entry(tensor: Tensor, leaf: Any, framework: Framework) -> tuple[tuple[int, ...], Callable[[], np.ndarray]]:
    """Returns the framework's shape of a leaf and a function that converts it."""
    layout = framework.layout_of(tensor)
    return layout.shape(tensor.shape), lambda: layout.from_flax(np.asarray(leaf).astype(np.float32, copy=False))


def _metadata(provenance: Provenance, framework: Framework) -> dict[str, str]:
    exact = framework.model_fields(provenance) == provenance.model_fields
    return dataclasses.replace(provenance, exact=exact).to_metadata() | {
        FRAMEWORK_KEY: framework.name,
        "writer": f"effnetv2_jax {__version__}",
        "format": "pt" if framework.is_pytorch else "flax",  # Hugging Face's libraries require this key
    }
