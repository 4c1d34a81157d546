"""The network as a Flax NNX module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from effnetv2_jax.model.efficientnetv2 import EfficientNetV2

_KINDS = {"params": nnx.Param, "batch_stats": nnx.BatchStat}


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
    if variables.keys() != _KINDS.keys():
        raise ValueError(f"variables must have the keys {', '.join(_KINDS)}, got {', '.join(variables) or 'none'}")
    module = nnx.bridge.ToNNX(model, rngs=rngs)
    layers: dict[str, Any] = {}
    for kind, variable in _KINDS.items():
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
