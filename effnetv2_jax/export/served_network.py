"""The network as it is served: with its weights, its image size, and the normalisation of its images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from effnetv2_jax.convert.weights import Weights
from effnetv2_jax.data.images.families import PreprocessingFamily, preprocessing_family
from effnetv2_jax.export.operations import Operation, network_operations
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.folding import fold_batch_norm
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.predict.labels import class_names


@dataclasses.dataclass(frozen=True)
class ServedNetwork:
    """A network with all that an exported file says of it.

    Attributes:
      model: the network; its BatchNorm is folded unless the user keeps it.
      variables: its variables, float32 NumPy arrays.
      provenance: the provenance of the weights.
      normalises: whether the program takes uint8 pixels and normalises them; otherwise it takes normalised images.
    """

    model: EfficientNetV2
    variables: Mapping[str, Any]
    provenance: Provenance
    normalises: bool

    @property
    def family(self) -> PreprocessingFamily:
        """How images are cropped, resized and normalised."""
        return preprocessing_family(self.provenance.preprocessing)

    @property
    def input_dtype(self) -> type[np.generic]:
        """The dtype of the program's images."""
        return np.uint8 if self.normalises else np.float32

    def image_shape(self) -> tuple[int, int, int]:
        """Returns `[S, S, 3]`, the shape of one image."""
        return (self.provenance.eval_size, self.provenance.eval_size, 3)

    def logits(self, images: Array) -> Array:
        """Computes the float32 logits `[N, classes]` of the program's images, in JAX."""
        logits: Any = self.model.apply(self.variables, self._normalised(images), train=False)
        return logits

    def operations(self) -> list[Operation]:
        """Returns the operations from normalised images to logits."""
        return network_operations(self.model, self.variables, self.provenance.eval_size)

    def description(self) -> dict[str, str]:
        """Returns what an exported file says of the network, as strings by key: its provenance and its input.

        Source: the keys of the provenance are those of a file of weights.
        """
        names = self.class_names()
        shape = "x".join(map(str, self.image_shape()))
        kind = "uint8 RGB pixels" if self.normalises else "normalised RGB images, float32"
        return self.provenance.to_metadata() | {
            "input": f"{kind}, N x {shape}",
            "mean": json.dumps(self.family.mean),
            "std": json.dumps(self.family.std),
            "batch_norm": "folded" if self.model.has_folded_norms else "kept",
            **({"class_names": json.dumps(names, ensure_ascii=False)} if names else {}),
        }

    def class_names(self) -> tuple[str, ...]:
        """Returns the name of each class; () if they are unknown."""
        return class_names(self.provenance)

    def _normalised(self, images: Array) -> Array:
        if not self.normalises:
            return images
        mean, std = (
            jnp.asarray(values, jnp.float32)[None, None, None, :] for values in (self.family.mean, self.family.std)
        )
        return (images.astype(jnp.float32) - mean) / std


def served_network(
    weights: Weights, *, fold: bool = True, normalises: bool = True, dtype: DTypeLike = jnp.float32
) -> ServedNetwork:
    """Returns the network of weights, as it is exported.

    Args:
      weights: the weights.
      fold: whether to fold BatchNorm into the kernels.
      normalises: whether the program takes uint8 pixels and normalises them.
      dtype: dtype of the activations.

    Raises:
      ValueError: if the weights have no classifier, or their preprocessing is unknown.
    """
    provenance = weights.provenance
    if not provenance.num_classes:
        raise ValueError("the weights have no classifier, so there are no logits to export")
    preprocessing_family(provenance.preprocessing)
    model, variables = weights.model(dtype=dtype), weights.variables
    if fold:
        model, variables = fold_batch_norm(model, variables)
    return ServedNetwork(model, variables, provenance, normalises)
