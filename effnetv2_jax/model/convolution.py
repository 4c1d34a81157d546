"""The convolutions of the network: one program for accelerators, a faster one of the same meaning for the CPU.

XLA compiles `conv_general_dilated` and its gradients well for a TPU or a GPU. For a CPU it compiles dense convolutions
and their input gradients well, but depthwise ones and the gradients of kernels 2 to 30 times slower than need be. There
they become matrix products and sums of shifted images. `lax.platform_dependent` chooses as a program is lowered, in the
forward and in the backward pass of one `custom_vjp`, so that no derivative is taken of the choice itself.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

Padding = Literal["same", "symmetric"]


def explicit_padding(size: int, kernel_size: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Rows of zeros before and after `size` rows: TensorFlow's SAME, or PyTorch's symmetric `kernel_size // 2`.

    Raises:
      ValueError: if `padding` is neither "same" nor "symmetric".
    """
    if padding == "symmetric":
        return kernel_size // 2, kernel_size // 2
    if padding != "same":
        raise ValueError(f"padding must be 'same' or 'symmetric', not {padding!r}")
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def conv(x: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """Convolves `x` `[N, H, W, I]` with `kernel` `[k, k, I, O]` to `[N, H', W', O]`."""
    return _conv(x, kernel, _geometry(x, kernel, stride, padding, depthwise=False))


def depthwise_conv(x: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """Convolves each channel of `x` `[N, H, W, C]` with its own `kernel` `[k, k, 1, C]` to `[N, H', W', C]`."""
    return _conv(x, kernel, _geometry(x, kernel, stride, padding, depthwise=True))


class _Geometry(NamedTuple):
    """What a convolution is, but for its arrays: hashable, so that it can be a static argument."""

    size: int
    stride: int
    pads: tuple[tuple[int, int], tuple[int, int]]
    depthwise: bool

    @property
    def pointwise(self) -> bool:
        return self.size == 1 and self.stride == 1 and not self.depthwise


def _geometry(x: Array, kernel: Array, stride: int, padding: Padding, *, depthwise: bool) -> _Geometry:
    size = kernel.shape[0]
    height, width = (explicit_padding(length, size, stride, padding) for length in x.shape[1:3])
    return _Geometry(size, stride, (height, width), depthwise)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    cpu = _product if geometry.pointwise else _shifted_sum if geometry.depthwise else _lax_conv
    return _by_platform(cpu, _lax_conv, geometry, x, kernel)


def _conv_forward(x: Array, kernel: Array, geometry: _Geometry) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, geometry), (x, kernel)


def _conv_backward(geometry: _Geometry, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    cpu = _product_gradients if geometry.pointwise else _depthwise_gradients if geometry.depthwise else _dense_gradients
    return _by_platform(cpu, _lax_gradients, geometry, *saved, g)


_conv.defvjp(_conv_forward, _conv_backward)


def _by_platform(cpu: Callable[..., Any], default: Callable[..., Any], geometry: _Geometry, *arrays: Array) -> Any:
    """Calls `cpu` in float32 or wider on a CPU and `default` in the arrays' dtype elsewhere; results in that dtype."""
    dtype = arrays[0].dtype

    def widened(*arrays: Array) -> Any:
        wide = (array.astype(jnp.promote_types(dtype, jnp.float32)) for array in arrays)
        return jax.tree.map(lambda result: result.astype(dtype), cpu(*wide, geometry))

    return lax.platform_dependent(*arrays, cpu=widened, default=lambda *arrays: default(*arrays, geometry))


def _lax_conv(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    """One convolution for XLA, of any kind."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (geometry.stride, geometry.stride),
        geometry.pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] if geometry.depthwise else 1,
    )


def _lax_gradients(x: Array, kernel: Array, g: Array, geometry: _Geometry) -> Any:
    return jax.vjp(partial(_lax_conv, geometry=geometry), x, kernel)[1](g)


def _product(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    """A 1×1 convolution as one matrix product; XLA folds the transposes of two-dimensional ones, and only of those."""
    return (_pixels(x) @ kernel[0, 0]).reshape(*x.shape[:3], -1)


def _product_gradients(x: Array, kernel: Array, g: Array, geometry: _Geometry) -> tuple[Array, Array]:
    by_x = (_pixels(g) @ kernel[0, 0].T).reshape(x.shape)
    return by_x, (_pixels(x).T @ _pixels(g))[None, None]


def _pixels(x: Array) -> Array:
    """`[…, C]` → `[pixels, C]`."""
    return x.reshape(-1, x.shape[-1])


def _dense_gradients(x: Array, kernel: Array, g: Array, geometry: _Geometry) -> tuple[Array, Array]:
    by_x = jax.linear_transpose(lambda x: _lax_conv(x, kernel, geometry), x)(g)[0]
    return by_x, _dense_kernel_gradient(x, g, geometry)


def _dense_kernel_gradient(x: Array, g: Array, geometry: _Geometry) -> Array:
    """Sums over rows of `g` `[N, H', W', O]` their products with the k² windows of `x` seen by the row, side by side.

    The windows of one row stay in the cache; those of the whole batch would be k² copies of `x` in memory.
    """
    size, stride, ((above, _), beside), _ = geometry
    height, width = x.shape[1], g.shape[2]

    def add_row(row: Array, total: Array) -> Array:
        windows = []
        for tap in range(size):
            source = row * stride + tap - above
            line = lax.dynamic_index_in_dim(x, jnp.clip(source, 0, height - 1), 1, keepdims=False)  # [N, W, I]
            line = jnp.where((source >= 0) & (source < height), line, 0)
            line = jnp.pad(line, ((0, 0), beside, (0, 0)))
            windows += [line[:, start : start + (width - 1) * stride + 1 : stride] for start in range(size)]
        seen = _pixels(jnp.concatenate(windows, -1))  # [N·W', k²·I]
        return total + _pixels(lax.dynamic_index_in_dim(g, row, 1, keepdims=False)).T @ seen

    total = jnp.zeros((g.shape[-1], size * size * x.shape[-1]), x.dtype)
    total = lax.fori_loop(0, g.shape[1], add_row, total)
    return total.reshape(-1, size, size, x.shape[-1]).transpose(1, 2, 3, 0)


def _shifted_sum(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    """A depthwise convolution as k² multiply-adds of shifted images, which XLA fuses into one loop over the output."""
    x = jnp.pad(x, ((0, 0), *geometry.pads, (0, 0)))
    size, stride = geometry.size, geometry.stride
    taps = kernel.reshape(size, size, 1, 1, 1, -1)
    n, height, width, channels = x.shape
    ends = height - size + 1, width - size + 1
    terms = (
        lax.slice(x, (0, i, j, 0), (n, ends[0] + i, ends[1] + j, channels), (1, stride, stride, 1)) * taps[i, j]
        for i in range(size)
        for j in range(size)
    )
    return functools.reduce(operator.add, terms)


def _depthwise_gradients(x: Array, kernel: Array, g: Array, geometry: _Geometry) -> tuple[Array, Array]:
    size, stride, pads, _ = geometry
    spread = _spread(g, x.shape[1:3], geometry)
    unpadded = _Geometry(size, 1, ((0, 0), (0, 0)), True)
    by_x = _shifted_sum(spread, jnp.flip(kernel, (0, 1)), unpadded)
    if stride == 1:  # shifting the cotangent, which is padded by now, spares a padded copy of x
        return by_x, jnp.flip(_correlation(spread, x, unpadded), (0, 1))
    return by_x, _correlation(jnp.pad(x, ((0, 0), *pads, (0, 0))), g, geometry)


def _spread(g: Array, size: tuple[int, ...], geometry: _Geometry) -> Array:
    """Pads `g` between and around its pixels, so that each of its k×k windows is what one pixel of x gave to."""
    config = [
        (geometry.size - 1 - before, length + before - (out - 1) * geometry.stride - 1, geometry.stride - 1)
        for length, out, (before, _) in zip(size, g.shape[1:3], geometry.pads, strict=True)
    ]
    return lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *config, (0, 0, 0)])


def _correlation(x: Array, y: Array, geometry: _Geometry) -> Array:
    """For each tap the sum of the products of `y` `[N, H, W, C]` and the window of `x` at that tap: `[k, k, 1, C]`."""
    size, stride = geometry.size, geometry.stride
    n, height, width, channels = y.shape
    window = (n, (height - 1) * stride + 1, (width - 1) * stride + 1, channels)

    def at_tap(tap: Array, sums: Array) -> Array:
        seen = lax.dynamic_slice(x, (0, tap // size, tap % size, 0), window)[:, ::stride, ::stride]
        return sums.at[tap].set((seen * y).sum((0, 1, 2)))

    sums = lax.fori_loop(0, size * size, at_tap, jnp.zeros((size * size, channels), x.dtype))
    return sums.reshape(size, size, 1, channels)
