"""Layers computed together, with hand-written gradients that need fewer passes over large arrays on a TPU.

The TPU compiler fuses arithmetic into convolutions, but BatchNorm puts a sum over all pixels between any two of them.
With JAX's own gradients, a step therefore reads or writes the widest array of a block about twenty times, and repeats
BatchNorm and SiLU inside depthwise convolutions wherever their windows overlap. Two units save a fifth of the passes:

- `expand`: a 1×1 convolution, BatchNorm and SiLU. The statistics of its outputs follow from the means and the second
  moments of its inputs, which have a quarter or a sixth of the channels. They are known before the convolution, which
  can therefore write normalised outputs. The same moments give BatchNorm's share of the gradients.
- `project`: BatchNorm, SiLU, squeeze and excitation, and a 1×1 convolution. Its gradient computes the transposed
  convolution twice. The first time, only the sums of each image leave it, and the gates are applied to these
  afterwards. The second time, it writes the gradient of the unit's input.

The units support `jax.grad` and `jax.vjp` only. Statistics, factors, sums and gradients of kernels are float32. The
returned statistics are constants for the gradients.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

# An array behind a barrier is computed once and stored. Without it, the compiler computes it again in each consumer.
_stored = lax.optimization_barrier
_exact = partial(jnp.einsum, precision=lax.Precision.HIGHEST)


class SqueezeWeights(NamedTuple):
    """The weights of squeeze and excitation: kernels `[1, 1, I, O]` and biases `[O]`, float32."""

    reduce_kernel: Array
    reduce_bias: Array
    expand_kernel: Array
    expand_bias: Array


def excitation(squeezed: Array, weights: SqueezeWeights) -> Array:
    """Returns the gates `[N, C]` of images whose channels have the means `squeezed` `[N, C]`."""
    hidden = jax.nn.silu(_affine(squeezed, weights.reduce_kernel, weights.reduce_bias))
    return jax.nn.sigmoid(_affine(hidden, weights.expand_kernel, weights.expand_bias))


def _affine(x: Array, kernel: Array, bias: Array) -> Array:
    return x @ kernel[0, 0].astype(x.dtype) + bias[None].astype(x.dtype)


class _Norm(NamedTuple):
    """The arithmetic of BatchNorm, x · factor + offset: arrays `[G, C]`, float32."""

    mean: Array
    rstd: Array
    factor: Array
    offset: Array


def _norm(mean: Array, var: Array, scale: Array, bias: Array, epsilon: float) -> _Norm:
    rstd = lax.rsqrt(var + epsilon)
    factor = scale[None] * rstd
    return _Norm(mean, rstd, factor, bias[None] - mean * factor)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def expand(x: Array, kernel: Array, scale: Array, bias: Array, groups: int, epsilon: float) -> tuple[Array, ...]:
    """Computes SiLU of BatchNorm of a 1×1 convolution.

    Args:
      x: `[N, H, W, I]`.
      kernel: `[1, 1, I, O]`, float32.
      scale: BatchNorm's factors `[O]`, float32.
      bias: BatchNorm's offsets `[O]`, float32.
      groups: number of groups of images that are normalised separately.
      epsilon: added to the variance.

    Returns:
      `[N, H, W, O]` in the dtype of `x`, and the mean and the variance of the convolution's outputs, `[G, O]`.
    """
    return _expand_forward(x, kernel, scale, bias, groups, epsilon)[0]


def _expand_forward(x: Array, kernel: Array, scale: Array, bias: Array, groups: int, epsilon: float) -> Any:
    w = kernel[0, 0].astype(x.dtype)
    exact = w.astype(jnp.float32)
    moments = _input_moments(x, groups)
    mean = _exact("gi,io->go", moments[0], exact)
    covariance = moments[1] - moments[0][:, :, None] * moments[0][:, None, :]
    var = jnp.maximum(_exact("gio,io->go", _exact("gij,jo->gio", covariance, exact), exact), 0.0)
    norm = _norm(mean, var, scale, bias, epsilon)
    e = _conv(x, w).astype(x.dtype)
    y, e = _stored((_activated(e, norm)[0].astype(x.dtype), e))
    return (y, mean, var), (x, w, e, norm, moments)


def _expand_backward(groups: int, _: float, saved: Any, cotangents: Any) -> Any:
    x, w, e, norm, moments = saved
    slope, centred = _activated(e, norm)[1:]
    g = _grouped(cotangents[0].astype(jnp.float32) * slope, groups)
    by_bias = g.sum((1, 2, 3))  # [G, O]
    by_scale = (g * _grouped(centred, groups)).sum((1, 2, 3)) * norm.rstd
    # The gradient of e is scaled − curve · e − level. Only its first term is stored, because the other two are linear
    # in x: their shares of the results follow from the moments of x and from a small convolution.
    scaled = _stored((g * _wide(norm.factor)).astype(x.dtype).reshape(e.shape))
    count = e.size // e.shape[-1] // groups
    curve = norm.factor * norm.rstd * by_scale / count
    level = norm.factor * by_bias / count - curve * norm.mean
    exact = w.astype(jnp.float32)
    by_kernel = (
        _correlation(x, scaled)
        - count * _exact("gio,go->io", _exact("gij,jo->gio", moments[1], exact), curve)
        - count * _exact("gi,go->io", moments[0], level)
    )
    curved = _conv_by_group(x, _exact("io,go,jo->gij", exact, curve, exact).astype(x.dtype))
    by_x = _grouped(_conv(scaled, w.T) - curved, groups) - _wide(_exact("io,go->gi", exact, level))
    return by_x.astype(x.dtype).reshape(x.shape), by_kernel[None, None], by_scale.sum(0), by_bias.sum(0)


expand.defvjp(_expand_forward, _expand_backward)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def project(
    x: Array, scale: Array, bias: Array, squeeze: SqueezeWeights | None, kernel: Array, groups: int, epsilon: float
) -> tuple[Array, ...]:
    """Computes a 1×1 convolution of SiLU of BatchNorm, with squeeze and excitation in between if it has weights.

    Args:
      x: `[N, H, W, I]`.
      scale: BatchNorm's factors `[I]`, float32.
      bias: BatchNorm's offsets `[I]`, float32.
      squeeze: weights of squeeze and excitation; None for none.
      kernel: `[1, 1, I, O]`, float32.
      groups: number of groups of images that are normalised separately.
      epsilon: added to the variance.

    Returns:
      `[N, H, W, O]` in the dtype of `x`, and the mean and the variance of `x`, `[G, I]`.
    """
    return _project_forward(x, scale, bias, squeeze, kernel, groups, epsilon)[0]


def _project_forward(
    x: Array, scale: Array, bias: Array, squeeze: SqueezeWeights | None, kernel: Array, groups: int, epsilon: float
) -> Any:
    grouped = _grouped(x, groups)
    mean = grouped.mean((1, 2, 3))
    var = jnp.maximum(lax.square(grouped).mean((1, 2, 3)) - lax.square(mean), 0.0)
    norm = _norm(mean, var, scale, bias, epsilon)
    y, slope, centred = _activated(x, norm)
    excited = None
    if squeeze is not None:
        squeezed = y.mean((1, 2)).astype(x.dtype)
        gate = excitation(squeezed, squeeze).astype(jnp.float32)
        excited = squeeze, squeezed, gate, slope.sum((1, 2)), (slope * centred).sum((1, 2))
        y = y * _each(gate)
    w = kernel[0, 0].astype(x.dtype)
    return (_conv(y.astype(x.dtype), w).astype(x.dtype), mean, var), (x, w, norm, excited)


def _project_backward(groups: int, _: float, saved: Any, cotangents: Any) -> Any:
    x, w, norm, excited = saved
    g = cotangents[0]
    y, slope, centred = _activated(x, norm)
    by_y = _conv(g, w.T)
    by_image = [(by_y * each).sum((1, 2)) for each in (slope, slope * centred)]  # [N, I]
    gate: Any = None
    added: Any = None
    by_squeeze = None
    if excited is not None:
        squeeze, squeezed, gate, *slope_sums = excited
        by_gate = (by_y * y).sum((1, 2)).astype(x.dtype)
        by_squeezed, by_squeeze = jax.vjp(excitation, squeezed, squeeze)[1](by_gate)
        added = by_squeezed.astype(jnp.float32) / (x.shape[1] * x.shape[2])
        by_image = [gate * total + added * slopes for total, slopes in zip(by_image, slope_sums, strict=True)]
        y = y * _each(gate)
    by_bias, by_scale = (total.reshape(groups, -1, total.shape[-1]).sum(1) for total in by_image)  # [G, I]
    by_scale = by_scale * norm.rstd
    by_kernel = _correlation(y.astype(x.dtype), g)
    by_y = _conv(g, lax.optimization_barrier(w).T)  # the barrier: or else the first result is stored and used again
    if excited is not None:
        by_y = by_y * _each(gate) + _each(added)
    count = x.size // x.shape[-1] // groups
    curve, level = norm.factor * norm.rstd * by_scale / count, norm.factor * by_bias / count
    by_x = _grouped(by_y * slope, groups) * _wide(norm.factor)
    by_x = by_x - _grouped(centred, groups) * _wide(curve) - _wide(level)
    by_x = _stored(by_x.astype(x.dtype).reshape(x.shape))
    return by_x, by_scale.sum(0), by_bias.sum(0), by_squeeze, by_kernel[None, None]


project.defvjp(_project_forward, _project_backward)


def _activated(x: Array, norm: _Norm) -> tuple[Array, Array, Array]:
    """Returns SiLU of the normalised `x`, SiLU's slope there, and `x` minus its mean: `[N, H, W, C]`, float32."""
    grouped = _grouped(x.astype(jnp.float32), norm.mean.shape[0])
    z = grouped * _wide(norm.factor) + _wide(norm.offset)
    gate = jax.nn.sigmoid(z)
    slope = gate * (1.0 + z * (1.0 - gate))
    return (z * gate).reshape(x.shape), slope.reshape(x.shape), (grouped - _wide(norm.mean)).reshape(x.shape)


def _grouped(x: Array, groups: int) -> Array:
    """`[N, H, W, C]` → float32 `[G, N/G, H, W, C]`."""
    return x.astype(jnp.float32).reshape(groups, -1, *x.shape[1:])


def _wide(per_group: Array) -> Array:
    """`[G, C]` → `[G, 1, 1, 1, C]`."""
    return per_group[:, None, None, None, :]


def _each(per_image: Array) -> Array:
    """`[N, C]` → `[N, 1, 1, C]`."""
    return per_image[:, None, None, :]


def _conv(x: Array, w: Array) -> Array:
    """Computes a 1×1 convolution of `[N, H, W, I]` with `[I, O]`, and returns the float32 sums."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, w[None, None], (1, 1), "VALID", dimension_numbers=numbers, preferred_element_type=jnp.float32
    )


def _conv_by_group(x: Array, w: Array) -> Array:
    """Computes a 1×1 convolution of `[N, H, W, I]` with another kernel for each group, `[G, I, O]`."""
    if w.shape[0] == 1:
        return _conv(x, w[0])
    split = x.reshape(w.shape[0], -1, *x.shape[1:])
    return jax.vmap(_conv)(split, w).reshape(*x.shape[:3], -1)


def _correlation(x: Array, y: Array) -> Array:
    """Returns `[I, O]` float32: the sum over all pixels of `x` `[N, H, W, I]` times `y` `[N, H, W, O]`."""
    sums = lax.conv_general_dilated(
        x, y, (1, 1), "VALID", dimension_numbers=("CHWN", "IHWO", "NHWC"), preferred_element_type=jnp.float32
    )
    return sums[:, 0, 0, :]


def _input_moments(x: Array, groups: int) -> tuple[Array, Array]:
    """Returns the mean `[G, I]` of each channel and the mean `[G, I, I]` of each product of two channels, float32."""
    mean = _grouped(x, groups).mean((1, 2, 3))
    count = x.size // x.shape[-1] // groups
    if groups == 1:
        return mean, _correlation(x, x)[None] / count
    split = x.reshape(groups, -1, *x.shape[1:])
    return mean, jax.vmap(_correlation)(split, split) / count
