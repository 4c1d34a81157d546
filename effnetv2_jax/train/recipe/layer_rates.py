"""The learning rate of each layer, relative to that of the run."""

from __future__ import annotations

from typing import Any

import jax
import optax

from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.recipe import parameter_paths
from effnetv2_jax.train.recipe.frozen import CLASSIFIER


def rate_factors(layer_decay: float, head_rate: float, spec: ModelSpec, params: Any) -> dict[str, float]:
    """Returns the factor of each parameter's learning rate by path.

    The classifier has the factor `head_rate`, the last block and the layer after it `layer_decay`, the block before
    `layer_decay`², and so on to the stem.
    Source: timm, optim/_param_groups.py, param_groups_layer_decay, with the groups of its EfficientNet.
    """
    blocks = sum(1 for _ in spec.blocks())

    def factor(path: str) -> float:
        layer = path.split("/")[0]
        if layer == CLASSIFIER:
            return head_rate
        if layer.startswith("block_"):
            return layer_decay ** (blocks - int(layer.removeprefix("block_")))
        return layer_decay ** (blocks + 1 if layer.startswith("stem") else 1)

    return {path: factor(path) for path in parameter_paths.flatten(params)}


def with_factors(
    transformation: optax.GradientTransformation, factors: dict[str, float]
) -> optax.GradientTransformation:
    """Returns a transformation with the same state whose updates are multiplied by a factor for each parameter."""
    if set(factors.values()) == {1.0}:
        return transformation

    def multiplied(path: Any, change: Any) -> Any:
        return change * factors[parameter_paths.of_leaf(path)]

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        changed, state = transformation.update(updates, state, params)
        return jax.tree_util.tree_map_with_path(multiplied, changed), state

    return optax.GradientTransformation(transformation.init, update)
