"""Weights to evaluate, with what their network and its classes are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import DTypeLike

from effnetv2_jax.convert.frameworks.table import FrameworkName
from effnetv2_jax.convert.weights import Weights, load_weights
from effnetv2_jax.evaluate.images.benchmarks import imagenet_ids
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.predict.labels import are_imagenet_s, class_names


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Weights to evaluate.

    Attributes:
      checkpoint: the path or name that the weights were read from.
      weights: variables and provenance.
      dtype: dtype of the activations.
    """

    checkpoint: str
    weights: Weights
    dtype: DTypeLike = jnp.float32

    @property
    def provenance(self) -> Provenance:
        """The provenance of the weights."""
        return self.weights.provenance

    @property
    def averaging(self) -> str:
        """`averaged`, `raw` or `unknown`."""
        return self.provenance.averaging

    def model(self) -> EfficientNetV2:
        """Creates the network."""
        return self.weights.model(dtype=self.dtype)

    def class_names(self) -> tuple[str, ...]:
        """Returns the names of the classes as data sets give them; () if they are unknown.

        Weights for ImageNet-1k that record no names have its WordNet ids.
        """
        own = self.provenance.class_names
        return own or (imagenet_ids() if are_imagenet_s(self.provenance) else ())

    def words(self, names: Sequence[str]) -> list[str]:
        """Returns names of classes for people to read: words replace the WordNet ids that they are known for."""
        words = dict(zip(self.class_names(), class_names(self.provenance), strict=False))
        return [words.get(name, name) for name in names]


def load_candidates(
    paths: Sequence[str],
    *,
    framework: FrameworkName | None = None,
    variant: str | ModelSpec | None = None,
    averaged: bool | None = None,
    dtype: DTypeLike = jnp.float32,
) -> list[Candidate]:
    """Reads the weights of each file; see `load_weights`.

    Args:
      paths: files or folders of weights.
      framework: their framework; None finds it from each file.
      variant: the architecture to assume for a file that does not record its own.
      averaged: whether to read the averaged or the raw weights; None for both, as far as they exist. A file that has
        only one of them gives this one.
      dtype: dtype of the activations.

    Raises:
      ValueError: if a file is damaged or has no classifier, or its network is unknown.
      OSError: if a file does not exist or cannot be read.
    """
    candidates: list[Candidate] = []
    for path in paths:
        read: dict[str, Weights] = {}
        for average in (True, False) if averaged is None else (averaged,):
            weights = load_weights(path, framework=framework, moving_average=average, default_variant=variant)
            read.setdefault(weights.provenance.averaging, weights)
        if not weights.provenance.num_classes:
            raise ValueError(f"{path} has no classifier")
        candidates += [Candidate(path, weights, dtype) for weights in read.values()]
    return candidates
