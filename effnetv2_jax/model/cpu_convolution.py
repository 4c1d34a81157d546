"""Convolutions and their gradients, in the forms that run fastest on a CPU.

XLA's own dense convolutions and input gradients are fast on a CPU. Its depthwise convolutions and kernel gradients take
2 to 30 times longer than the matrix products and the sums of shifted images in this module.
"""

from __future__ import annotations

import functools
import operator

import jax
import jax.numpy as jnp
from jax import Array, lax

from effnetv2_jax.model.lax_convolution import Geometry, lax_conv


def cpu_conv(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Convolves `x` `[N, H, W, I]` with `kernel` `[k, k, I, O]`, or `[k, k, 1, I]` if depthwise."""
    if geometry.pointwise:
        return _product(x, kernel)
    return (_shifted_sum if geometry.depthwise else lax_conv)(x, kernel, geometry)


def cpu_gradients(x: Array, kernel: Array, g: Array, geometry: Geometry) -> tuple[Array, Array]:
    """Returns the gradients with respect to `x` and `kernel`, for the cotangent `g` `[N, H', W', O]` of `cpu_conv`."""
    if geometry.pointwise:
        return _product_gradients(x, kernel, g)
    return (_depthwise_gradients if geometry.depthwise else _dense_gradients)(x, kernel, g, geometry)


def _product(x: Array, kernel: Array) -> Array:
    """Computes a 1×1 convolution as one product of two matrices. XLA folds transposes of matrices into products."""
    return (_pixels(x) @ kernel[0, 0]).reshape(*x.shape[:3], -1)


def _product_gradients(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    by_x = (_pixels(g) @ kernel[0, 0].T).reshape(x.shape)
    return by_x, (_pixels(x).T @ _pixels(g))[None, None]


def _pixels(x: Array) -> Array:
    """`[…, C]` → `[pixels, C]`."""
    return x.reshape(-1, x.shape[-1])


def _dense_gradients(x: Array, kernel: Array, g: Array, geometry: Geometry) -> tuple[Array, Array]:
    by_x = jax.linear_transpose(lambda x: lax_conv(x, kernel, geometry), x)(g)[0]
    return by_x, _dense_kernel_gradient(x, g, geometry)


def _dense_kernel_gradient(x: Array, g: Array, geometry: Geometry) -> Array:
    """Returns the kernel's gradient, as a sum of one matrix product for each row of pixels in `g` `[N, H', W', O]`.

    Each product multiplies the row by the k² shifted windows of `x` that produced it, which are concatenated. The
    windows of one row stay in the CPU's cache; those of the whole batch would be k² copies of `x` in memory.
    """
    size, stride, ((above, _), beside), _ = geometry
    height, width = x.shape[1], g.shape[2]

    def add_row(row: Array, total: Array) -> Array:
        windows = []
        for tap in range(size):
            image_row = row * stride + tap - above
            line = lax.dynamic_index_in_dim(x, jnp.clip(image_row, 0, height - 1), 1, keepdims=False)  # [N, W, I]
            line = jnp.where((image_row >= 0) & (image_row < height), line, 0)
            line = jnp.pad(line, ((0, 0), beside, (0, 0)))
            windows += [line[:, start : start + (width - 1) * stride + 1 : stride] for start in range(size)]
        seen = _pixels(jnp.concatenate(windows, -1))  # [N·W', k²·I]
        return total + _pixels(lax.dynamic_index_in_dim(g, row, 1, keepdims=False)).T @ seen

    total = jnp.zeros((g.shape[-1], size * size * x.shape[-1]), x.dtype)
    total = lax.fori_loop(0, g.shape[1], add_row, total)
    return total.reshape(-1, size, size, x.shape[-1]).transpose(1, 2, 3, 0)


def _shifted_sum(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Computes a depthwise convolution as k² multiply-adds of shifted images, which XLA fuses into one loop."""
    x = jnp.pad(x, ((0, 0), *geometry.pads, (0, 0)))
    size, stride = geometry.kernel_size, geometry.stride
    taps = kernel.reshape(size, size, 1, 1, 1, -1)
    n, height, width, channels = x.shape
    ends = height - size + 1, width - size + 1
    terms = (
        lax.slice(x, (0, i, j, 0), (n, ends[0] + i, ends[1] + j, channels), (1, stride, stride, 1)) * taps[i, j]
        for i in range(size)
        for j in range(size)
    )
    return functools.reduce(operator.add, terms)


def _depthwise_gradients(x: Array, kernel: Array, g: Array, geometry: Geometry) -> tuple[Array, Array]:
    size, stride, pads, _ = geometry
    spread = _spread(g, x.shape[1:3], geometry)
    unpadded = Geometry(size, 1, ((0, 0), (0, 0)), True)
    by_x = _shifted_sum(spread, jnp.flip(kernel, (0, 1)), unpadded)
    if stride == 1:  # the cotangent is padded already: shifting it instead of x saves a padded copy of x
        return by_x, jnp.flip(_correlation(spread, x, unpadded), (0, 1))
    return by_x, _correlation(jnp.pad(x, ((0, 0), *pads, (0, 0))), g, geometry)


def _spread(g: Array, size: tuple[int, ...], geometry: Geometry) -> Array:
    """Inserts zeros between and around the pixels of `g`.

    A k×k window of the result then covers all outputs that one input pixel contributes to.
    """
    config = [
        (geometry.kernel_size - 1 - before, length + before - (out - 1) * geometry.stride - 1, geometry.stride - 1)
        for length, out, (before, _) in zip(size, g.shape[1:3], geometry.pads, strict=True)
    ]
    return lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def _correlation(x: Array, y: Array, geometry: Geometry) -> Array:
    """Returns `[k, k, 1, C]`: for each tap, the sum of `y` `[N, H, W, C]` times the window of `x` at that tap."""
    size, stride = geometry.kernel_size, geometry.stride
    n, height, width, channels = y.shape
    window = (n, (height - 1) * stride + 1, (width - 1) * stride + 1, channels)

    def at_tap(tap: Array, sums: Array) -> Array:
        seen = lax.dynamic_slice(x, (0, tap // size, tap % size, 0), window)[:, ::stride, ::stride]
        return sums.at[tap].set((seen * y).sum((0, 1, 2)))

    sums = lax.fori_loop(0, size * size, at_tap, jnp.zeros((size * size, channels), x.dtype))
    return sums.reshape(size, size, 1, channels)
