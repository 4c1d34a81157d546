"""Pictures to classes, with the preprocessing that belongs to the weights."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax import Array

from effnetv2_jax.convert.weights import Variables, Weights
from effnetv2_jax.data.families import preprocessing_family
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.predict.images import evaluation_image, read_image
from effnetv2_jax.predict.labels import class_names

_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Guess:
    """One class that a picture may show: its index, its name ("" where unknown) and its probability."""

    index: int
    name: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A picture's most probable classes, the first first."""

    path: Path
    guesses: tuple[Guess, ...]


def classify(weights: Weights, paths: Sequence[Path], *, top: int = 5) -> Iterator[Prediction]:
    """Yields a prediction for each picture, in order, at the weights' own evaluation size.

    Raises:
      ValueError: for weights without a classifier, a damaged picture, or `top` out of range.
      OSError: for a picture that is not there.
    """
    facts = weights.provenance
    if not facts.num_classes:
        raise ValueError("the weights have no classifier")
    if not 1 <= top <= facts.num_classes:
        raise ValueError(f"top must be 1 to {facts.num_classes}, got {top}")
    family, names = preprocessing_family(facts.preprocessing), class_names(facts)
    variables = jax.device_put(weights.variables)
    probabilities = _compiled(weights.model())
    size = min(_BATCH, len(paths))
    for start in range(0, len(paths), _BATCH):
        chunk = paths[start : start + _BATCH]
        images = [evaluation_image(read_image(path), family, facts.eval_size, facts.eval_crop) for path in chunk]
        padded = np.stack(images + [images[0]] * (size - len(images)))  # one shape, one program
        for path, row in zip(chunk, np.asarray(probabilities(variables, padded)), strict=False):
            best = np.argsort(-row, kind="stable")[:top]
            guesses = (Guess(int(i), names[i] if names else "", float(row[i])) for i in best)
            yield Prediction(path, tuple(guesses))


@functools.lru_cache(maxsize=2)
def _compiled(model: EfficientNetV2) -> Callable[[Variables, np.ndarray], Array]:
    return jax.jit(lambda variables, images: jax.nn.softmax(model.apply(variables, images, train=False)))
