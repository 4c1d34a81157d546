"""One evaluation step, as a function of variables and batch that is compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from effnetv2_jax.data.images.families import PreprocessingFamily
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.folding import fold_batch_norm
from effnetv2_jax.model.variables import Variables
from effnetv2_jax.train.recipe.losses import Loss, one_hot
from effnetv2_jax.train.recipe.step import Batch, normalize

EvalStep = Callable[[Variables, Batch], dict[str, Array]]

Results = dict[str, dict[str, float]]
"""Name of the weights → `top1` and `top5` in per cent, mean `loss`, and `count` of images."""


def make_eval_step(
    model: EfficientNetV2, family: PreprocessingFamily, loss: Loss, *, folds_batch_norm: bool = False
) -> EvalStep:
    """Returns (variables, batch) → float32 sums over the batch's images: `top1`, `top5`, `loss` and their `count`.

    The batch has `image` uint8 `[N, H, W, 3]`, `label` `[N]` and `mask` `[N]`. Labels may be multi-hot `[N, classes]`;
    each of an image's classes then counts as right. Images with a mask of 0 are padding and are not counted. With
    `folds_batch_norm`, the step folds BatchNorm into the kernels before it computes the logits.
    """

    def eval_step(variables: Variables, batch: Batch) -> dict[str, Array]:
        network, values = fold_batch_norm(model, variables) if folds_batch_norm else (model, variables)
        logits: Any = network.apply(values, normalize(batch["image"], family), train=False)
        targets = one_hot(batch["label"], model.num_classes)
        mask = batch["mask"].astype(jnp.float32)
        _, best = jax.lax.top_k(logits, min(5, model.num_classes))
        hits = jnp.take_along_axis(targets, best, axis=-1) > 0  # [N, 5]
        return {
            "top1": jnp.sum(mask * hits[:, 0]),
            "top5": jnp.sum(mask * hits.any(-1)),
            "loss": jnp.sum(mask * loss(logits, targets)),
            "count": jnp.sum(mask),
        }

    return eval_step
