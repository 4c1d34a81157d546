"""One step of an evaluation that keeps a result for each image, as a function that is compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from effnetv2_jax.data.images.families import PreprocessingFamily
from effnetv2_jax.evaluate.images.class_map import ClassMap
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables
from effnetv2_jax.train.recipe.losses import Loss, one_hot
from effnetv2_jax.train.recipe.step import Batch, normalize

ImageStep = Callable[[Variables, Batch], dict[str, Array]]

TOP = 5
"""Number of classes that are kept of an image."""


def make_image_step(
    model: EfficientNetV2,
    family: PreprocessingFamily,
    classes: ClassMap,
    *,
    flip: bool = False,
    loss: Loss | None = None,
) -> ImageStep:
    """Returns (variables, batch) → results for each of the batch's N images.

    The batch has `image` uint8 `[N, H, W, 3]` and `label`, the data's classes, int32 `[N]` or multi-hot `[N, classes]`.
    The network chooses from the K classes of `classes.columns`, and its results number them 0 … K - 1:

    - `best`: the most probable classes in descending order, int32 `[N, 5]`, or `[N, K]` if there are fewer;
    - `best_probability`: their probabilities, float32, from a softmax over the K classes;
    - `probability`: the sum of the probabilities of the image's own classes, float32 `[N]`;
    - `loss`: `loss` of the logits, float32 `[N]`; None stands for minus the logarithm of `probability`.

    Args:
      model: the network.
      family: how images are normalised.
      classes: the classes.
      flip: whether the logits are the mean of those of the image and of its mirror image.
      loss: the loss.
    """
    columns, of_data = np.array(classes.columns), np.array(classes.of_data)
    chooses_from_all = len(columns) == model.num_classes

    def logits_of(variables: Variables, images: Array) -> Array:
        logits: Any = model.apply(variables, normalize(images, family), train=False)
        return logits if chooses_from_all else logits[:, columns]

    def image_step(variables: Variables, batch: Batch) -> dict[str, Array]:
        logits = logits_of(variables, batch["image"])
        if flip:
            logits = (logits + logits_of(variables, batch["image"][:, :, ::-1])) / 2
        data_classes = int(of_data.max()) + 1
        labels = one_hot(batch["label"], max(data_classes, 1))
        targets = jnp.where((of_data >= 0)[None], labels[:, np.maximum(of_data, 0)], 0.0)  # [N, K]
        log_probabilities = jax.nn.log_softmax(logits)
        log_probability = jax.nn.logsumexp(jnp.where(targets > 0, log_probabilities, -jnp.inf), axis=-1)
        best_probability, best = jax.lax.top_k(jnp.exp(log_probabilities), min(TOP, len(columns)))
        return {
            "best": best,
            "best_probability": best_probability,
            "probability": jnp.exp(log_probability),
            "loss": -log_probability if loss is None else loss(logits, targets),
        }

    return image_step
