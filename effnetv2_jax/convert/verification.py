"""Proof of a conversion: the logits of the file that was written against those of the weights that were read."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from jax import Array

from effnetv2_jax.convert.architectures import architecture
from effnetv2_jax.convert.formats.safetensors_file import open_safetensors
from effnetv2_jax.convert.formats.tensor_file import read_row
from effnetv2_jax.convert.names import Convention, tensor_rows
from effnetv2_jax.convert.torch_models import foreign_logits
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2, create_model
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.specs import ModelSpec

TOLERANCE = 2e-5
"""Relative to the largest logit: what float32 in another order of operations may differ by in networks this deep."""

_IMAGES = 2


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a comparison found.

    `difference` is the largest absolute one between the logits of source and target on the fixed images,
    `largest_logit` the source's largest absolute value, `against` what computed the target's. `deviation` is empty
    where source and target are the same function, and otherwise says how they differ.
    """

    difference: float
    largest_logit: float
    against: str
    deviation: str

    @property
    def exact(self) -> bool:
        """Whether the target computes what the source computes, but for rounding."""
        return not self.deviation and self.relative <= TOLERANCE  # false if it is not a number

    @property
    def relative(self) -> float:
        """The difference relative to the largest logit."""
        return self.difference / self.largest_logit if self.largest_logit else self.difference

    def __str__(self) -> str:
        verdict = "exact" if self.exact else f"NOT exact: {self.deviation or 'they should agree'}"
        return (
            f"largest difference of logits: {self.difference:.3g} ({self.relative:.2g} of the largest logit), "
            f"against {self.against}: {verdict}"
        )


def fixed_images(spec: ModelSpec) -> np.ndarray:
    """Returns the images that conversions are verified on, float32 `[2, H, H, 3]` in −1..1."""
    size = max(64, 2 * spec.total_stride)
    return np.random.default_rng(0).uniform(-1.0, 1.0, (_IMAGES, size, size, 3)).astype(np.float32)


def verify(variables: Mapping[str, Any], provenance: Provenance, file: Path, target: Convention) -> Verification:
    """Compares variables with the safetensors file that was written of them.

    The target's framework computes its logits where it is installed. Otherwise our network does, with the padding and
    the epsilon of that framework, from the file read back through the inverse of what wrote it.
    """
    known = architecture(target, provenance.spec)
    source_fields = provenance.fields
    target_fields = source_fields if target == "flax" else known.fields
    images = fixed_images(provenance.spec)
    expected = _logits(variables, provenance, source_fields, images)
    foreign = foreign_logits(target, known, provenance.num_classes, file, images)
    if foreign is not None:
        against, got = foreign
    else:
        against = "the file read back" + ("" if source_fields == target_fields else f", computed as {target} does")
        got = _logits(_read_back(file, provenance, target, variables), provenance, target_fields, images)
    return Verification(
        difference=float(np.abs(got - expected).max()),
        largest_logit=float(np.abs(expected).max()),
        against=against,
        deviation=_deviation(target, source_fields, target_fields),
    )


@functools.lru_cache(maxsize=2)
def _compiled(model: EfficientNetV2) -> Callable[[Mapping[str, Any], np.ndarray], Array]:
    return jax.jit(functools.partial(model.apply, train=False))


def _logits(
    variables: Mapping[str, Any], provenance: Provenance, fields: Mapping[str, Any], images: np.ndarray
) -> np.ndarray:
    model = create_model(provenance.spec, num_classes=provenance.num_classes, **fields)
    return np.asarray(_compiled(model)(variables, images))


def _read_back(file: Path, provenance: Provenance, target: Convention, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the file's variables; those equal to the source's share its memory."""
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    with open_safetensors(file) as tensors:
        for row in tensor_rows(provenance.spec, provenance.num_classes):
            value = read_row(tensors, row, target)
            flat[row.path] = flat[row.path] if np.array_equal(value, flat[row.path]) else value
    return traverse_util.unflatten_dict(flat, sep="/")


def _deviation(target: Convention, source: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    words = {"padding": "pads", "bn_epsilon": "normalises with an epsilon of"}
    faults = [
        f"{target} {words[key]} {other[key]}, these weights were trained with {value}"
        for key, value in source.items()
        if other[key] != value
    ]
    return "; ".join(faults)
