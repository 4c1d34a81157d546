"""Verifies a conversion: compares the logits of the file that was written with those of the weights that were read."""

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

from effnetv2_jax.convert.formats.safetensors_file import open_safetensors
from effnetv2_jax.convert.frameworks.architecture import Architecture, NoNetwork
from effnetv2_jax.convert.frameworks.flax import FLAX
from effnetv2_jax.convert.frameworks.framework import Framework
from effnetv2_jax.convert.tensor_check import read_tensor
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2, create_model
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.specs import ModelSpec

TOLERANCE = 2e-5
"""Largest difference, relative to the largest logit, that a different order of float32 operations may cause."""

_IMAGES = 2


@dataclasses.dataclass(frozen=True)
class Verification:
    """The result of a comparison.

    Attributes:
      difference: largest absolute difference between the logits of the two, on fixed images.
      largest_logit: largest absolute value of the logits of the weights that were read.
      against: what gave the logits of the file that was written: the framework's own network with its version, or the
        file read back by this project, with the reason why not the framework's network.
      computed_by: the framework that computed them; `flax` is this project.
      deviation: how the framework's computation differs from the one that the weights were trained with; empty if they
        compute the same.
    """

    difference: float
    largest_logit: float
    against: str
    computed_by: str
    deviation: str

    @property
    def exact(self) -> bool:
        """Whether both compute the same logits, except for rounding."""
        return not self.deviation and self.relative <= TOLERANCE  # False for NaN

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


def verify(
    variables: Mapping[str, Any], provenance: Provenance, file: Path, framework: Framework, *, folder: bool = False
) -> Verification:
    """Compares variables with the safetensors file that was written from them for a framework.

    If the framework's own network can be run here, it computes the logits of the file. Otherwise, the file is read
    back, and our network computes the logits with the framework's padding and epsilon.

    Args:
      variables: the variables that were read.
      provenance: their provenance.
      file: the safetensors file that was written.
      framework: the framework that it was written for.
      folder: whether it was written as part of a Hugging Face folder.
    """
    architecture = framework.written_architecture(provenance, folder=folder)
    trained_with, computed_with = provenance.model_fields, architecture.model_fields
    images = fixed_images(provenance.spec)
    expected = _logits(variables, provenance, trained_with, images)
    try:
        against, logits = framework_logits(framework, architecture, provenance, file, images)
        computed_by = framework.name
    except NoNetwork as error:
        computed_by, against = FLAX.name, "the file read back"
        against += f" and computed as {framework.name} does" if computed_with != trained_with else ""
        against += f" ({error})" if framework is not FLAX else ""
        logits = _logits(_read_back(file, provenance, framework, variables), provenance, computed_with, images)
    return Verification(
        difference=float(np.abs(logits - expected).max()),
        largest_logit=float(np.abs(expected).max()),
        against=against,
        computed_by=computed_by,
        deviation=_deviation(framework, trained_with, computed_with),
    )


def framework_logits(
    framework: Framework, architecture: Architecture, provenance: Provenance, file: Path, images: np.ndarray
) -> tuple[str, np.ndarray]:
    """Returns the result of `Framework.run` on a file.

    Raises:
      NoNetwork: if the framework has no network of its own to run, or it is not installed.
    """
    if framework.run is None:
        raise NoNetwork(f"there is no package of the {framework.name} networks")
    return framework.run(provenance.spec, architecture, provenance.num_classes, file, images)


@functools.lru_cache(maxsize=2)
def _compiled(model: EfficientNetV2) -> Callable[[Mapping[str, Any], np.ndarray], Array]:
    return jax.jit(functools.partial(model.apply, train=False))


def _logits(
    variables: Mapping[str, Any], provenance: Provenance, fields: Mapping[str, Any], images: np.ndarray
) -> np.ndarray:
    model = create_model(provenance.spec, num_classes=provenance.num_classes, **fields)
    return np.asarray(_compiled(model)(variables, images))


def _read_back(
    file: Path, provenance: Provenance, framework: Framework, variables: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the file's variables; leaves that equal those of `variables` share their memory."""
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    with open_safetensors(file) as opened:
        for tensor in network_tensors(provenance.spec, provenance.num_classes):
            value = read_tensor(opened, tensor, framework)
            flat[tensor.path] = flat[tensor.path] if np.array_equal(value, flat[tensor.path]) else value
    return traverse_util.unflatten_dict(flat, sep="/")


def _deviation(framework: Framework, trained_with: Mapping[str, Any], computed_with: Mapping[str, Any]) -> str:
    words = {"padding": "padding", "bn_epsilon": "a BatchNorm epsilon of"}
    faults = [
        f"{framework.name} uses {words[key]} {computed_with[key]}, but these weights were trained with {value}"
        for key, value in trained_with.items()
        if computed_with[key] != value
    ]
    return "; ".join(faults)
