"""How fresh weights are drawn.

A `Distribution` draws with JAX inside a Flax module, and with NumPy in `init_variables`: compiling the random numbers
of every layer takes XLA as long as compiling a training step, and the host draws them in a second.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import Array

if TYPE_CHECKING:
    from effnetv2_jax.model.efficientnetv2 import EfficientNetV2


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Values of a kernel: normal with the standard deviation `spread(shape)`, or uniform in ± `spread(shape)`."""

    kind: Literal["normal", "uniform"]
    spread: Callable[[Sequence[int]], float]

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        """Draws with JAX: a Flax initialiser."""
        draw = jax.random.normal if self.kind == "normal" else functools.partial(jax.random.uniform, minval=-1.0)
        return self.spread(shape) * draw(key, tuple(shape), dtype)

    def draw(self, rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        """Draws float32 with NumPy."""
        if self.kind == "normal":
            return np.float32(self.spread(shape)) * rng.standard_normal(shape, np.float32)
        return np.float32(self.spread(shape)) * (2 * rng.random(shape, np.float32) - 1)


# Kernels [k, k, in, out]: √(2 / fan-out). Source: conv_kernel_initializer of the official effnetv2_model.py.
CONV = Distribution("normal", lambda shape: (2.0 / (shape[0] * shape[1] * shape[3])) ** 0.5)
# Depthwise kernels [k, k, 1, channels]: the fan-out of a channel is k². Source: the same.
DEPTHWISE = Distribution("normal", lambda shape: (2.0 / (shape[0] * shape[1])) ** 0.5)
# Classifiers [in, classes]: ±1/√classes. Source: dense_kernel_initializer of the official effnetv2_model.py.
CLASSIFIER = Distribution("uniform", lambda shape: shape[1] ** -0.5)
# Source: `_initialize_weights` of the article's network.
ARTICLE_CLASSIFIER = Distribution("normal", lambda shape: 0.001)


def init_variables(model: EfficientNetV2, seed: int) -> dict[str, Any]:
    """Returns fresh `{"params": …, "batch_stats": …}` as NumPy arrays, the same for a seed on every machine."""
    flat = traverse_util.flatten_dict(variable_shapes(model), sep="/")
    values = {path: _value(path, leaf.shape, seed, model.classifier_init) for path, leaf in flat.items()}
    return traverse_util.unflatten_dict(values, sep="/")


def variable_shapes(model: EfficientNetV2) -> dict[str, Any]:
    """Returns the tree of `jax.ShapeDtypeStruct` of the model's variables, without computing any."""
    size = model.spec.minimum_image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)


def _value(path: str, shape: Sequence[int], seed: int, classifier: Distribution) -> np.ndarray:
    leaf = path.rsplit("/", 1)[-1]
    if leaf != "kernel":
        return np.full(shape, 1.0 if leaf in ("scale", "var") else 0.0, np.float32)
    layer = path.rsplit("/", 2)[-2]
    distribution = {"depthwise_conv": DEPTHWISE, "classifier": classifier}.get(layer, CONV)
    return distribution.draw(np.random.default_rng([seed, zlib.crc32(path.encode())]), shape)
