"""Parameters that keep their values, and the BatchNorm layers that keep their statistics with them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import jax

from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.recipe import parameter_paths

CLASSIFIER = "classifier"
"""The layer that turns pooled features into logits."""


def frozen_parameters(patterns: Sequence[str], rows: Sequence[int], spec: ModelSpec, params: Any) -> frozenset[str]:
    """Returns the paths of the parameters that keep their values in a whole run.

    Args:
      patterns: regular expressions, matched at the start of parameter paths.
      rows: rows of blocks.
      spec: the network's architecture.
      params: the parameters, as arrays or shapes.

    Raises:
      ValueError: for a pattern that is not a regular expression or matches nothing, for a row that the network does not
        have, or if no parameter is left to train.
    """
    if unknown := sorted(set(rows) - set(range(len(spec.rows)))):
        raise ValueError(
            f"optimizer.frozen_rows must name rows of {spec.name}, 0 to {len(spec.rows) - 1}, got {unknown}"
        )
    blocks = tuple(f"block_{index}/" for index, block in enumerate(spec.blocks()) if block.row in rows)
    every = parameter_paths.flatten(params).keys()
    frozen = parameter_paths.matching(params, patterns) | {path for path in every if path.startswith(blocks)}
    if frozen == every:
        raise ValueError("optimizer.frozen and optimizer.frozen_rows leave no parameter to train")
    return frozenset(frozen)


def all_but_classifier(params: Any) -> frozenset[str]:
    """Returns the paths of all parameters except the classifier's."""
    return frozenset(path for path in parameter_paths.flatten(params) if not path.startswith(f"{CLASSIFIER}/"))


def fixed_norms(frozen: Collection[str]) -> frozenset[str]:
    """Returns the paths of the BatchNorm layers that have a frozen parameter."""
    layers = {path.rpartition("/")[0] for path in frozen}
    return frozenset(layer for layer in layers if layer.endswith("_norm"))


def kept(new: Any, old: Any, frozen: Collection[str]) -> Any:
    """Returns `new`, but with the leaves of `old` that belong to frozen parameters.

    Both are trees that contain the tree of the parameters any number of times, as an optimiser's state does.
    """

    def chosen(path: Any, after: Any, before: Any) -> Any:
        return before if parameter_paths.of_leaf(path) in frozen else after

    return jax.tree_util.tree_map_with_path(chosen, new, old)
