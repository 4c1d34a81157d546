"""MBConv in training, as a chain of the units of `tpu_units`."""

from __future__ import annotations

import functools

from jax import Array

from effnetv2_jax.model import tpu_units
from effnetv2_jax.model.layers import BatchNorm, Conv, SqueezeExcite
from effnetv2_jax.model.specs import BlockSpec, LayerSpec


def apply_units(
    spec: BlockSpec, x: Array, *, conv: functools.partial[Conv], norm: functools.partial[BatchNorm]
) -> Array:
    """Applies the layers of an MBConv block in training, inside the calling module, which gets their parameters.

    The parameters, the result and the gradients are those of applying each layer by itself, except for rounding.

    Args:
      spec: the block.
      x: `[N, H, W, C]`.
      conv: makes a convolution from its features, kernel size and stride.
      norm: makes a BatchNorm.

    Returns:
      `[N, H', W', features]`.
    """
    layers = {layer.name: layer for layer in spec.layers()}
    if "expand" in layers:
        x = _expand(layers["expand"], x, conv=conv, norm=norm)
    depthwise = layers["depthwise"]
    x = conv(depthwise.features, depthwise.kernel_size, depthwise.stride, True, name="depthwise_conv")(x)
    squeeze = layers.get("se")
    weights = squeeze and SqueezeExcite(squeeze.squeezed_features, name="se").weights(depthwise.features)
    kernel, _ = conv(spec.features, 1, name="project_conv").weights(depthwise.features)

    def project(scale: Array, bias: Array, groups: int, epsilon: float) -> tuple[Array, ...]:
        return tpu_units.project(x, scale, bias, weights, kernel, groups, epsilon)

    y = norm(name="depthwise_norm").inside(project, x.shape[0], depthwise.features)
    return norm(name="project_norm")(y, train=True)


def _expand(layer: LayerSpec, x: Array, *, conv: functools.partial[Conv], norm: functools.partial[BatchNorm]) -> Array:
    kernel, _ = conv(layer.features, 1, name="expand_conv").weights(layer.input_features)

    def expand(scale: Array, bias: Array, groups: int, epsilon: float) -> tuple[Array, ...]:
        return tpu_units.expand(x, kernel, scale, bias, groups, epsilon)

    return norm(name="expand_norm").inside(expand, x.shape[0], layer.features)
