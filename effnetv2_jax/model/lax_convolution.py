"""A convolution's geometry, and the convolution as XLA's own operation."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
from jax import Array, lax

Padding = Literal["same", "symmetric"]


class Geometry(NamedTuple):
    """What defines a convolution besides its arrays; hashable, so that it can be a static argument.

    `pads` are the numbers of zeros added above and below the image, and to its left and right.
    """

    kernel_size: int
    stride: int
    pads: tuple[tuple[int, int], tuple[int, int]]
    depthwise: bool

    @property
    def pointwise(self) -> bool:
        """Whether this is a dense 1×1 convolution of stride 1."""
        return self.kernel_size == 1 and self.stride == 1 and not self.depthwise


def explicit_padding(size: int, kernel_size: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Returns the numbers of zeros before and after `size` pixels: as TensorFlow's SAME, or `kernel_size // 2` twice.

    Raises:
      ValueError: if `padding` is neither "same" nor "symmetric".
    """
    if padding == "symmetric":
        return kernel_size // 2, kernel_size // 2
    if padding != "same":
        raise ValueError(f"padding must be 'same' or 'symmetric', not {padding!r}")
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def lax_conv(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Convolves `x` `[N, H, W, I]` with `kernel` `[k, k, I, O]`, or `[k, k, 1, I]` if depthwise."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (geometry.stride, geometry.stride),
        geometry.pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] if geometry.depthwise else 1,
    )


def lax_gradients(x: Array, kernel: Array, g: Array, geometry: Geometry) -> Any:
    """Returns the gradients with respect to `x` and `kernel`, for the cotangent `g` `[N, H', W', O]` of `lax_conv`."""
    return jax.vjp(partial(lax_conv, geometry=geometry), x, kernel)[1](g)
