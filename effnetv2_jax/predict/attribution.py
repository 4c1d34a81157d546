"""Where in an image a network sees a class: Grad-CAM on the last feature map before the head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables

LAYER = "reduction_5"
"""The feature map that is looked at: the output of the last block."""


@functools.lru_cache(maxsize=2)
def grad_cam(model: EfficientNetV2) -> Callable[[Variables, Array | np.ndarray, Array | np.ndarray], Array]:
    """Returns (variables, images `[N, S, S, 3]`, classes `[N]`) → maps `[N, h, w]`, compiled.

    A map is as large as the feature map. Where it is high, the features speak for the class; it is 0 where they do not.

    Source: Selvaraju et al., Grad-CAM, 2017, equations 1 and 2: the feature maps, weighted by the mean over positions
    of the logit's derivatives with respect to each, then added up and clipped at 0.
    """
    last_block = f"block_{len(list(model.spec.blocks())) - 1}"

    def logits_and_features(variables: Variables, images: Array, added: Array) -> tuple[Array, Array]:
        """Returns the logits if `added` is added to the features, and the features."""

        def add(call: Callable[..., Any], arguments: Any, named: Any, context: nn.module.InterceptorContext) -> Any:
            output = call(*arguments, **named)
            is_last = context.method_name == "__call__" and context.module.path == (last_block,)
            return output + added.astype(output.dtype) if is_last else output

        with nn.intercept_methods(add):
            logits, ends = model.apply(variables, images, train=False, return_endpoints=True)
        return logits, ends[LAYER]

    @jax.jit
    def maps(variables: Variables, images: Array, classes: Array) -> Array:
        features = jax.eval_shape(logits_and_features, variables, images, jnp.float32(0))[1]
        nothing = jnp.zeros(features.shape, jnp.float32)

        def chosen(added: Array) -> tuple[Array, Array]:
            logits, features = logits_and_features(variables, images, added)
            return jnp.take_along_axis(logits, classes[:, None], axis=-1).sum(), features

        derivatives, features = jax.grad(chosen, has_aux=True)(nothing)
        weights = derivatives.mean((1, 2), keepdims=True)  # [N, 1, 1, features]
        return jax.nn.relu((weights * features.astype(jnp.float32)).sum(-1))

    return maps
