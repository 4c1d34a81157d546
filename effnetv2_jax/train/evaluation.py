"""Evaluation that counts each image exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.families import PreprocessingFamily
from effnetv2_jax.data.pipeline import eval_batches
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.recipe.losses import Loss, one_hot
from effnetv2_jax.train.recipe.state import Variables
from effnetv2_jax.train.recipe.step import Batch, normalize

EvalStep = Callable[[Variables, Batch], dict[str, Array]]
Results = dict[str, dict[str, float]]


def make_eval_step(model: EfficientNetV2, family: PreprocessingFamily, loss: Loss) -> EvalStep:
    """Returns (variables, batch) → sums over the batch's images: `top1`, `top5`, `loss` and their `count`.

    The batch has `image` uint8 `[N, H, W, 3]`, `label` `[N]` (or multi-hot `[N, classes]`, where any of an image's
    classes counts as right) and `mask` `[N]`: images with a mask of 0 are padding and count nowhere.
    """

    def eval_step(variables: Variables, batch: Batch) -> dict[str, Array]:
        logits = model.apply(variables, normalize(batch["image"], family), train=False)
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


def evaluate_split(
    eval_step: EvalStep,
    variables: Mapping[str, Variables],
    data: DataConfig,
    *,
    image_size: int,
    batch_size: int,
    examples: int,
    mesh: jax.sharding.Mesh,
) -> Results:
    """Runs each set of variables over the evaluation split, all hosts together: see `evaluate`.

    Args:
      eval_step: compiled for global batches.
      variables: the sets by name.
      data: which split.
      image_size: side in pixels.
      batch_size: of all hosts together.
      examples: the split's size, which is checked.
      mesh: what the batches lie on.
    """
    batches = eval_batches(
        data,
        image_size=image_size,
        batch_size=batch_size // jax.process_count(),
        host_index=jax.process_index(),
        host_count=jax.process_count(),
    )
    return evaluate(eval_step, variables, sharding.on_devices(batches, sharding.batch_sharded(mesh)), examples)


def evaluate(
    eval_step: EvalStep, variables: Mapping[str, Variables], batches: Iterable[Batch], examples: int
) -> Results:
    """Runs each set of variables over the batches; a set of several names runs once.

    Returns:
      The sets' names → `top1` and `top5` in per cent, the mean `loss`, and the `count` of images seen.

    Raises:
      RuntimeError: if the batches hold another number of images than `examples`.
    """
    distinct = {id(values): values for values in variables.values()}
    sums: dict[int, Any] = dict.fromkeys(distinct)
    for batch in batches:
        for key, values in distinct.items():
            counted = eval_step(values, batch)
            sums[key] = counted if sums[key] is None else jax.tree.map(jnp.add, sums[key], counted)
    means = {key: _means(jax.device_get(total), examples) for key, total in sums.items()}
    return {name: means[id(values)] for name, values in variables.items()}


def _means(total: dict[str, np.ndarray] | None, examples: int) -> dict[str, float]:
    count = round(float(total["count"])) if total else 0
    if total is None or count != examples:
        raise RuntimeError(f"evaluation saw {count} images instead of the split's {examples}")
    return {
        "top1": 100.0 * float(total["top1"]) / count,
        "top5": 100.0 * float(total["top5"]) / count,
        "loss": float(total["loss"]) / count,
        "count": float(count),
    }
