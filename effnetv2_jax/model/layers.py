"""The layers that the network is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from effnetv2_jax.model.convolution import convolve
from effnetv2_jax.model.initializers import CONV, DEPTHWISE
from effnetv2_jax.model.lax_convolution import Padding
from effnetv2_jax.model.specs import LayerSpec
from effnetv2_jax.model.tpu_units import SqueezeWeights, excitation


class Conv(nn.Module):
    """A convolution: `[N, H, W, I]` → `[N, H', W', features]`, computed in the input's dtype.

    With `depthwise`, each channel is convolved by itself, and `features` is the number of input channels. With
    `use_bias`, a bias is added in float32.
    """

    features: int
    kernel_size: int
    stride: int = 1
    depthwise: bool = False
    padding: Padding = "same"
    fast_cpu_gradients: bool = False
    use_bias: bool = False

    @nn.compact
    def weights(self, features: int) -> tuple[Array, Array | None]:
        """Returns the kernel `[k, k, I, features]` for inputs with a number of features, and the bias; float32."""
        inputs, initializer = (1, DEPTHWISE) if self.depthwise else (features, CONV)
        shape = (self.kernel_size, self.kernel_size, inputs, self.features)
        kernel = self.param("kernel", initializer, shape, jnp.float32)
        zeros = nn.initializers.zeros
        return kernel, self.param("bias", zeros, (self.features,), jnp.float32) if self.use_bias else None

    def __call__(self, x: Array) -> Array:
        kernel, bias = self.weights(x.shape[-1])
        y = convolve(
            x,
            kernel.astype(x.dtype),
            stride=self.stride,
            padding=self.padding,
            depthwise=self.depthwise,
            fast_cpu_gradients=self.fast_cpu_gradients,
        )
        if bias is None:
            return y
        return (y.astype(jnp.float32) + bias[None, None, None, :]).astype(x.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation over groups of images, with float32 statistics and factors for inputs of any dtype.

    In training, each group of `group_size` images is normalised by its own mean and variance E[x²] − E[x]². A size of
    0, or one larger than the batch, makes the whole batch one group. The moving averages are updated with the mean and
    the biased variance, averaged over the groups. A layer whose path is in `fixed` uses its moving averages in training
    too, and keeps them.
    Source: the official tpu_normalization.py. TensorFlow's fused CPU kernel stores the unbiased variance instead.

    Raises:
      ValueError: if the batch is not a multiple of `group_size`.
    """

    momentum: float
    epsilon: float
    group_size: int = 0
    fixed: frozenset[str] = frozenset()

    def __call__(self, x: Array, *, train: bool) -> Array:
        train = train and "/".join(self.path) not in self.fixed
        scale, bias, moving_mean, moving_var = self._variables(x.shape[-1])
        groups = _group_count(x.shape[0], self.group_size) if train else 1
        grouped = x.reshape(groups, -1, *x.shape[1:])  # [G, N/G, H, W, C]
        if train:
            mean, var = _moments(grouped)  # [G, C]
            self._update(moving_mean, moving_var, mean, var)
        else:
            mean, var = moving_mean.value[None], moving_var.value[None]
        factor = scale[None] * jax.lax.rsqrt(var + self.epsilon)
        offset = bias[None] - mean * factor
        factor, offset = factor[:, None, None, None, :], offset[:, None, None, None, :]
        return (grouped.astype(jnp.float32) * factor + offset).astype(x.dtype).reshape(x.shape)

    def inside(self, unit: Unit, images: int, features: int) -> Array:
        """Returns the result of a unit that normalises in training, and updates the moving averages.

        Args:
          unit: (scale, bias, number of groups, epsilon) → the result, and the mean and variance of each group `[G, C]`.
          images: number of images.
          features: number of channels that are normalised.
        """
        scale, bias, moving_mean, moving_var = self._variables(features)
        y, mean, var = unit(scale, bias, _group_count(images, self.group_size), self.epsilon)
        self._update(moving_mean, moving_var, mean, var)
        return y

    @nn.compact
    def _variables(self, features: int) -> tuple[Array, Array, nn.Variable[Array], nn.Variable[Array]]:
        shape = (features,)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        moving_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        moving_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        return scale, bias, moving_mean, moving_var

    def _update(self, moving_mean: nn.Variable[Array], moving_var: nn.Variable[Array], mean: Array, var: Array) -> None:
        if not self.is_initializing():
            moving_mean.value = self._averaged(moving_mean.value, mean.mean(0))
            moving_var.value = self._averaged(moving_var.value, var.mean(0))

    def _averaged(self, old: Array, new: Array) -> Array:
        return self.momentum * old + (1.0 - self.momentum) * new


Unit = Callable[[Array, Array, int, float], tuple[Array, ...]]
"""(scale, bias, number of groups, epsilon) → the result, the mean and the variance, as in `tpu_units`."""


def _group_count(images: int, group_size: int) -> int:
    if group_size == 0 or group_size >= images:
        return 1
    if images % group_size:
        raise ValueError(f"a batch of {images} images does not divide into BatchNorm groups of {group_size}")
    return images // group_size


def _moments(x: Array) -> tuple[Array, Array]:
    """Returns mean and variance of `[G, N, H, W, C]` over N, H and W in one pass, as float32 `[G, C]`."""
    x = x.astype(jnp.float32)
    mean = x.mean((1, 2, 3))
    mean_of_square = jax.lax.square(x).mean((1, 2, 3))
    return mean, jnp.maximum(mean_of_square - jax.lax.square(mean), 0.0)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' means: `[N, H, W, C]` → `[N, H, W, C]`."""

    features: int

    def __call__(self, x: Array) -> Array:
        squeezed = x.mean((1, 2), dtype=jnp.float32).astype(x.dtype)
        return x * excitation(squeezed, self.weights(x.shape[-1]))[:, None, None, :]

    @nn.compact
    def weights(self, features: int) -> SqueezeWeights:
        """Returns the kernels and the biases for inputs with a number of features."""
        reduce = Pointwise(self.features, name="reduce")(features)
        return SqueezeWeights(*reduce, *Pointwise(features, name="expand")(self.features))


class Pointwise(nn.Module):
    """The float32 weights of a 1×1 convolution with bias: I → kernel `[1, 1, I, features]` and bias `[features]`."""

    features: int

    @nn.compact
    def __call__(self, inputs: int) -> tuple[Array, Array]:
        kernel = self.param("kernel", CONV, (1, 1, inputs, self.features), jnp.float32)
        return kernel, self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)


def apply_layer(
    layer: LayerSpec,
    x: Array,
    *,
    conv: functools.partial[Conv],
    norm: functools.partial[BatchNorm] | None,
    train: bool,
) -> Array:
    """Applies a layer inside the calling module, which gets the layer's parameters.

    Args:
      layer: what to apply.
      x: `[N, H, W, C]`.
      conv: makes a convolution from its features, kernel size and stride.
      norm: makes a BatchNorm; None leaves BatchNorm out.
      train: whether BatchNorm uses the batch's statistics.

    Returns:
      `[N, H', W', features]`.
    """
    if layer.kind == "squeeze":
        return SqueezeExcite(layer.squeezed_features, name=layer.name)(x)
    depthwise = layer.kind == "depthwise"
    x = conv(layer.features, layer.kernel_size, layer.stride, depthwise, name=f"{layer.name}_conv")(x)
    if norm is not None:
        x = norm(name=f"{layer.name}_norm")(x, train=train)
    return nn.silu(x) if layer.activated else x


def drop_path(x: Array, rate: float, rng: Array) -> Array:
    """Zeroes whole examples of `x` `[N, …]` with probability `rate` and scales the others by 1 / (1 − rate).

    Source: Huang et al., Deep Networks with Stochastic Depth, arXiv 1603.09382; drop_connect of the official utils.py.
    """
    keep = 1.0 - rate
    kept = jax.random.bernoulli(rng, keep, (x.shape[0],) + (1,) * (x.ndim - 1))
    return x * (kept.astype(jnp.float32) / keep).astype(x.dtype)
