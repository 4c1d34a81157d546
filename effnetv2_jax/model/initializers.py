"""The distributions that fresh weights are drawn from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


@dataclasses.dataclass(frozen=True)
class Distribution:
    """A distribution of a kernel's values.

    Attributes:
      kind: `normal` or `uniform`.
      spread: shape of the kernel → the standard deviation, or the largest absolute value of the uniform distribution.
    """

    kind: Literal["normal", "uniform"]
    spread: Callable[[Sequence[int]], float]

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        """Draws values with JAX, as a Flax initialiser."""
        draw = jax.random.normal if self.kind == "normal" else functools.partial(jax.random.uniform, minval=-1.0)
        return self.spread(shape) * draw(key, tuple(shape), dtype)

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        """Draws float32 values with NumPy."""
        if self.kind == "normal":
            return np.float32(self.spread(shape)) * rng.standard_normal(shape, np.float32)
        return np.float32(self.spread(shape)) * (2 * rng.random(shape, np.float32) - 1)


# Kernels [k, k, in, out]: standard deviation √(2 / fan-out).
# Source: conv_kernel_initializer of the official effnetv2_model.py.
CONV = Distribution("normal", lambda shape: (2.0 / (shape[0] * shape[1] * shape[3])) ** 0.5)
# Depthwise kernels [k, k, 1, channels]: the same, with a fan-out of k². Source: as for CONV.
DEPTHWISE = Distribution("normal", lambda shape: (2.0 / (shape[0] * shape[1])) ** 0.5)
# Classifiers [in, classes]: within ±1/√classes. Source: dense_kernel_initializer of the official effnetv2_model.py.
CLASSIFIER = Distribution("uniform", lambda shape: shape[1] ** -0.5)
# Source: `_initialize_weights` of the article's network.
ARTICLE_CLASSIFIER = Distribution("normal", lambda _: 0.001)
