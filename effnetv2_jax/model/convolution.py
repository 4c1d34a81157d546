"""The convolutions of the network: each platform gets the form that XLA compiles best for it.

While a program is lowered, `lax.platform_dependent` chooses between XLA's own operation and the forms for a CPU. A
program for a TPU or a GPU therefore contains none of the CPU forms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from effnetv2_jax.model.cpu_convolution import cpu_conv, cpu_gradients
from effnetv2_jax.model.lax_convolution import Geometry, Padding, explicit_padding, lax_conv, lax_gradients


def convolve(
    x: Array,
    kernel: Array,
    *,
    stride: int,
    padding: Padding,
    depthwise: bool = False,
    fast_cpu_gradients: bool = False,
) -> Array:
    """Convolves images with a kernel.

    Args:
      x: `[N, H, W, I]`.
      kernel: `[k, k, I, O]`, or `[k, k, 1, I]` if depthwise.
      stride: stride in both directions.
      padding: `"same"` as in TensorFlow, or `"symmetric"` as in PyTorch.
      depthwise: whether each channel is convolved by itself.
      fast_cpu_gradients: whether a CPU computes hand-written gradients, which are several times faster than JAX's own.
        They support `jax.grad` and `jax.vjp` only; without them, every transformation of JAX works.

    Returns:
      `[N, H', W', O]`, in the dtype of `x`.

    Raises:
      ValueError: for an unknown padding.
    """
    size = kernel.shape[0]
    height, width = (explicit_padding(length, size, stride, padding) for length in x.shape[1:3])
    geometry = Geometry(size, stride, (height, width), depthwise)
    return (_conv_with_fast_gradients if fast_cpu_gradients else _conv)(x, kernel, geometry)


def _conv(x: Array, kernel: Array, geometry: Geometry) -> Array:
    return _by_platform(cpu_conv, lax_conv, geometry, x, kernel)


_conv_with_fast_gradients = jax.custom_vjp(_conv, nondiff_argnums=(2,))


def _forward(x: Array, kernel: Array, geometry: Geometry) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, geometry), (x, kernel)


def _backward(geometry: Geometry, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    return _by_platform(cpu_gradients, lax_gradients, geometry, *saved, g)


_conv_with_fast_gradients.defvjp(_forward, _backward)


def _by_platform(cpu: Callable[..., Any], default: Callable[..., Any], geometry: Geometry, *arrays: Array) -> Any:
    """Calls `cpu` in float32 or wider on a CPU, and `default` in the arrays' dtype elsewhere.

    The results have the arrays' dtype on every platform.
    """
    dtype = arrays[0].dtype

    def widened(*arrays: Array) -> Any:
        wide = (array.astype(jnp.promote_types(dtype, jnp.float32)) for array in arrays)
        return jax.tree.map(lambda result: result.astype(dtype), cpu(*wide, geometry))

    return lax.platform_dependent(*arrays, cpu=widened, default=lambda *arrays: default(*arrays, geometry))
