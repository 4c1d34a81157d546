"""Classifies images, with the preprocessing that belongs to the weights."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from effnetv2_jax.convert.weights import Weights
from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.folding import fold_batch_norm
from effnetv2_jax.model.variables import Variables
from effnetv2_jax.predict.images import evaluation_image, read_image
from effnetv2_jax.predict.labels import class_names

_BATCH = 8
_TOP = 5


@dataclasses.dataclass(frozen=True)
class Guess:
    """One class that an image may show: its index, its name ("" if unknown) and its probability."""

    index: int
    name: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, in descending order."""

    path: Path
    guesses: tuple[Guess, ...]


OnBadImage = Callable[[Path, Exception], None]


def classify(
    weights: Weights,
    paths: Sequence[Path],
    *,
    top: int | None = None,
    on_bad_image: OnBadImage | None = None,
    folds_batch_norm: bool = False,
) -> Iterator[Prediction]:
    """Yields a prediction for each image file, in order, at the evaluation size of the weights.

    Args:
      weights: weights with a classifier.
      paths: image files.
      top: number of classes in a prediction; None for five, or all if there are fewer.
      on_bad_image: called with the path of an image that cannot be read, and the error; the image is left out. None
        raises the error.
      folds_batch_norm: whether to fold BatchNorm into the kernels first; see `fold_batch_norm`.

    Raises:
      ValueError: if the weights have no classifier, `top` is out of range, or an image is damaged.
      OSError: if an image file does not exist or cannot be read.
    """
    provenance = weights.provenance
    if not provenance.num_classes:
        raise ValueError("the weights have no classifier")
    top = min(_TOP, provenance.num_classes) if top is None else top
    if not 1 <= top <= provenance.num_classes:
        raise ValueError(f"top must be 1 to {provenance.num_classes}, got {top}")
    family, names = preprocessing_family(provenance.preprocessing), class_names(provenance)
    size, eval_crop = provenance.eval_size, provenance.eval_crop
    model, variables = weights.model(), weights.variables
    if folds_batch_norm:
        model, variables = fold_batch_norm(model, variables)
    variables = jax.device_put(variables)
    probabilities = _compiled(model)
    batch_size = min(_BATCH, len(paths))
    for start in range(0, len(paths), _BATCH):
        chunk, images = [], []
        for path in paths[start : start + _BATCH]:
            try:
                images.append(evaluation_image(read_image(path), family, size, eval_crop))
                chunk.append(path)
            except (ValueError, OSError) as error:
                if on_bad_image is None:
                    raise
                on_bad_image(path, error)
        if not images:
            continue
        padded = np.stack(images + [images[0]] * (batch_size - len(images)))  # one shape, thus one program
        for path, row in zip(chunk, np.asarray(probabilities(variables, padded)), strict=False):
            best = np.argsort(-row, kind="stable")[:top]
            guesses = (Guess(int(i), names[i] if names else "", float(row[i])) for i in best)
            yield Prediction(path, tuple(guesses))


@functools.lru_cache(maxsize=2)
def _compiled(model: EfficientNetV2) -> Callable[[Variables, np.ndarray], Array]:
    def probabilities(variables: Variables, images: np.ndarray) -> Array:
        logits: Any = model.apply(variables, images, train=False)
        return jax.nn.softmax(logits)

    return jax.jit(probabilities)
