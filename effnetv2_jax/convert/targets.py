"""What a conversion may write, and how it writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from effnetv2_jax.convert.architectures import architecture
from effnetv2_jax.convert.formats.huggingface_folder import WEIGHTS, write_config
from effnetv2_jax.convert.formats.pth_file import counter_names
from effnetv2_jax.convert.formats.safetensors_file import write_safetensors
from effnetv2_jax.convert.formats.tensor_file import TensorFile, check_names
from effnetv2_jax.convert.layouts import LAYOUTS, Shape
from effnetv2_jax.convert.names import TARGETS, TORCH, Convention, TensorRow, tensor_rows
from effnetv2_jax.model.provenance import CONVENTION, Provenance
from effnetv2_jax.model.specs import ModelSpec


def is_folder(path: Path) -> bool:
    """Whether a target's path means a folder in Hugging Face's layout: one that is there, or a name without suffix."""
    return path.is_dir() or not path.suffix


def check_target(path: Path, spec: ModelSpec, target: Convention) -> None:
    """Raises ValueError if a target has no such network, or is not written to such a path."""
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r}; known targets: {', '.join(TARGETS)}")
    known = architecture(target, spec)
    if not is_folder(path):
        if path.suffix != ".safetensors":
            raise ValueError(f"{path}: weights are written to .safetensors files, not {path.suffix}")
    elif target != "timm":
        raise ValueError(f"{path}: {target} weights are written to a .safetensors file; only timm's also to a folder")
    elif known.name is None:
        raise ValueError(
            f"{path}: timm has no name for {spec.name} of these widths, so no folder; write a .safetensors"
        )


def write_weights(
    path: Path, variables: Mapping[str, Any], provenance: Provenance, target: Convention, *, folder: bool
) -> Path:
    """Writes variables at a path that nobody reads yet, and returns the safetensors file among what it wrote.

    Raises:
      ValueError: if the variables are not those of the provenance's architecture.
    """
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    rows = tensor_rows(provenance.spec, provenance.num_classes)
    shapes = {name: np.shape(leaf) for name, leaf in flat.items()}
    check_names(TensorFile(shapes, flat.__getitem__), rows, "flax")
    file = path / WEIGHTS if folder else path
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {row.name(target): _foreign(row, flat[row.path], target) for row in rows}
    write_safetensors(
        file, tensors, _metadata(provenance, target), counter_names(rows, target) if target in TORCH else ()
    )
    if folder:
        write_config(path, provenance)
    return file


def _foreign(row: TensorRow, leaf: Any, target: Convention) -> tuple[Shape, Callable[[], np.ndarray]]:
    layout = LAYOUTS[target][row.kind]
    return layout.shape(row.shape), lambda: layout.foreign(np.asarray(leaf).astype(np.float32, copy=False))


def _metadata(provenance: Provenance, target: Convention) -> dict[str, str]:
    from effnetv2_jax import __version__

    exact = target == "flax" or architecture(target, provenance.spec).fields == provenance.fields
    facts = dataclasses.replace(provenance, exact=exact).to_metadata()
    kind = "pt" if target in TORCH else "flax"  # what Hugging Face's libraries ask for
    return facts | {CONVENTION: target, "writer": f"effnetv2_jax {__version__}", "format": kind}
