"""A model's variables: their shapes, and fresh values that the host draws."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.initializers import CONV, DEPTHWISE, Distribution

Variables = dict[str, Any]
"""`{"params": …, "batch_stats": …}`, nested dicts of arrays."""


def variable_shapes(model: EfficientNetV2) -> Variables:
    """Returns the model's variables as a tree of `jax.ShapeDtypeStruct`, without computing any."""
    return jax.tree.map(lambda leaf: leaf, _variable_shapes(model))


@functools.lru_cache(maxsize=16)  # tracing B0 takes 0.6 s, and a run asks eight times
def _variable_shapes(model: EfficientNetV2) -> Variables:
    size = model.spec.minimum_image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)


def init_variables(model: EfficientNetV2, seed: int) -> Variables:
    """Returns fresh variables as NumPy arrays, the same for a seed on every machine.

    The host draws them in about a second. Compiling `model.init` would take as long as compiling a training step.
    """
    flat = traverse_util.flatten_dict(variable_shapes(model), sep="/")
    values = {path: _value(path, leaf.shape, seed, model.classifier_init) for path, leaf in flat.items()}
    return traverse_util.unflatten_dict(values, sep="/")


def _value(path: str, shape: Sequence[int], seed: int, classifier: Distribution) -> np.ndarray:
    leaf = path.rsplit("/", 1)[-1]
    if leaf != "kernel":
        return np.full(shape, 1.0 if leaf in ("scale", "var") else 0.0, np.float32)
    layer = path.rsplit("/", 2)[-2]
    distribution = {"depthwise_conv": DEPTHWISE, "classifier": classifier}.get(layer, CONV)
    return distribution.draw(np.random.default_rng([seed, zlib.crc32(path.encode())]), shape)
