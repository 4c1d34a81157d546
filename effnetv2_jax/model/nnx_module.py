"""The network as a Flax NNX module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from effnetv2_jax.model.efficientnetv2 import EfficientNetV2

if TYPE_CHECKING:
    from flax import nnx


def to_nnx(model: EfficientNetV2, variables: Mapping[str, Any], *, rngs: nnx.Rngs | None = None) -> nnx.bridge.ToNNX:
    """Returns the network with its variables as an NNX module, without running it.

    `nnx.bridge.ToNNX(model).lazy_init(images)` returns an equal module, but computes the network operation by
    operation, each of which is compiled by itself.

    Args:
      model: the network.
      variables: its variables, as `init_variables` and `load_variables` return them.
      rngs: the source of keys for dropout and drop path in training; not needed otherwise.

    Raises:
      ValueError: if `variables` are not `{"params": …, "batch_stats": …}`.
    """
    from flax import nnx  # takes a quarter of a second, which only this function needs

    kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat}
    if variables.keys() != kinds.keys():
        raise ValueError(f"variables must have the keys {', '.join(kinds)}, got {', '.join(variables) or 'none'}")
    module = nnx.bridge.ToNNX(model, rngs=rngs)
    layers: dict[str, Any] = {}
    for kind, variable in kinds.items():
        tree = jax.tree.map(lambda leaf, variable=variable: variable(jnp.asarray(leaf)), dict(variables[kind]))
        _merge(layers, tree)
    for name, layer in layers.items():
        setattr(module, name, nnx.data(layer))
    return module


def _merge(into: dict[str, Any], tree: Mapping[str, Any]) -> None:
    """Adds the leaves of a nested dict to another one; no leaf is in both."""
    for name, value in tree.items():
        if isinstance(value, dict):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = value
