"""Writes weights to a framework's file or folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from effnetv2_jax.convert.destination import is_folder, is_run_folder, suffix
from effnetv2_jax.convert.formats.huggingface_folder import WEIGHTS, write_config
from effnetv2_jax.convert.formats.safetensors_file import write_safetensors
from effnetv2_jax.convert.frameworks.flax import FLAX
from effnetv2_jax.convert.frameworks.framework import Framework
from effnetv2_jax.convert.frameworks.table import check_structure
from effnetv2_jax.convert.tensor_check import check_names
from effnetv2_jax.convert.tensors import Tensor, network_tensors
from effnetv2_jax.convert.weight_file import PathLike
from effnetv2_jax.model.provenance import FRAMEWORK_KEY, Provenance
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.version import __version__


def check_target(path: PathLike, spec: ModelSpec, framework: Framework) -> None:
    """Raises ValueError if a framework has no network like `spec`, or its weights cannot be written to `path`."""
    check_structure(framework, spec)
    if not is_folder(path):
        if suffix(path) != ".safetensors":
            raise ValueError(f"{path}: weights are written to .safetensors files, not to {suffix(path)} files")
    elif is_run_folder(path):
        raise ValueError(f"{path} is the folder of a run, which has its own config.json; write to another folder")
    elif framework.folder_config is None:
        raise ValueError(f"{path}: {framework.name} weights are written to a .safetensors file, not to a folder")
    elif reason := framework.architecture(spec).reason:
        raise ValueError(
            f"{path}: {framework.name} cannot build {spec.name} from a folder, so its weights are written to a "
            f".safetensors file: {reason}"
        )


def write_weights(
    path: Path, variables: Mapping[str, Any], provenance: Provenance, framework: Framework, *, folder: bool
) -> Path:
    """Writes variables as a framework's file or folder, and returns the path of the safetensors file.

    Raises:
      ValueError: if the variables are not those of the provenance's architecture.
    """
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    tensors = network_tensors(provenance.spec, provenance.num_classes)
    check_names({name: np.shape(leaf) for name, leaf in flat.items()}, tensors, FLAX)
    file = path / WEIGHTS if folder else path
    file.parent.mkdir(parents=True, exist_ok=True)
    entries = {framework.name_of(tensor): _entry(tensor, flat[tensor.path], framework) for tensor in tensors}
    architecture = framework.written_architecture(provenance, folder=folder)
    metadata = _metadata(provenance, framework, exact=architecture.model_fields == provenance.model_fields)
    write_safetensors(file, entries, metadata, framework.counter_names(tensors))
    if folder and framework.folder_config:
        write_config(path, framework.folder_config(provenance, architecture))
    return file


def _entry(tensor: Tensor, leaf: Any, framework: Framework) -> tuple[tuple[int, ...], Callable[[], np.ndarray]]:
    """Returns the shape of a leaf in the framework's layout, and a function that converts the leaf to it."""
    layout = framework.layout_of(tensor)
    return layout.shape(tensor.shape), lambda: layout.from_flax(np.asarray(leaf).astype(np.float32, copy=False))


def _metadata(provenance: Provenance, framework: Framework, *, exact: bool) -> dict[str, str]:
    return dataclasses.replace(provenance, exact=exact).to_metadata() | {
        FRAMEWORK_KEY: framework.name,
        "writer": f"effnetv2_jax {__version__}",
        "format": "pt" if framework.is_pytorch else "flax",  # Hugging Face's libraries require this key
    }
