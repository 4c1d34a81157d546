"""The convolutions of the network: one program for accelerators, a faster one for the CPU.

XLA compiles `conv_general_dilated` well for a TPU or a GPU, and badly for a CPU, where the gradients and the depthwise
convolutions are up to 30 times slower than need be. On a CPU they become matrix products and shifted sums here.
"""

import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

Padding = Literal["same", "symmetric"]
Pads = tuple[tuple[int, int], tuple[int, int]]


def explicit_padding(size: int, kernel_size: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Rows of zeros before and after `size` rows: TensorFlow's SAME, or PyTorch's symmetric `kernel_size // 2`."""
    if padding == "symmetric":
        return kernel_size // 2, kernel_size // 2
    if padding != "same":
        raise ValueError(f"padding must be 'same' or 'symmetric', not {padding!r}")
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def conv(x: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """Convolves x [N, H, W, I] with kernel [k, k, I, O] to [N, H', W', O]."""
    return _conv(x, kernel, stride, _pads(x, kernel, stride, padding), False)


def depthwise_conv(x: Array, kernel: Array, *, stride: int, padding: Padding) -> Array:
    """Convolves each channel of x [N, H, W, C] with its own kernel [k, k, 1, C] to [N, H', W', C]."""
    return _conv(x, kernel, stride, _pads(x, kernel, stride, padding), True)


def _pads(x: Array, kernel: Array, stride: int, padding: Padding) -> Pads:
    height, width = (explicit_padding(size, kernel.shape[0], stride, padding) for size in x.shape[1:3])
    return height, width


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x: Array, kernel: Array, stride: int, pads: Pads, depthwise: bool) -> Array:
    plain = functools.partial(_plain, stride=stride, pads=pads, depthwise=depthwise)
    if kernel.shape[0] == 1 and stride == 1:
        cpu: Callable[..., Array] = _pointwise
    elif depthwise:
        cpu = functools.partial(_depthwise, stride=stride, pads=pads)
    else:
        cpu = plain
    return lax.platform_dependent(x, kernel, cpu=cpu, default=plain)


def _conv_forward(
    x: Array, kernel: Array, stride: int, pads: Pads, depthwise: bool
) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, stride, pads, depthwise), (x, kernel)


def _conv_backward(
    stride: int, pads: Pads, depthwise: bool, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    def plain(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        return jax.vjp(functools.partial(_plain, stride=stride, pads=pads, depthwise=depthwise), x, kernel)[1](g)

    if saved[1].shape[0] == 1 and stride == 1:
        cpu: Callable[..., tuple[Array, Array]] = _pointwise_gradient
    else:
        cpu = functools.partial(_spatial_gradient, stride=stride, pads=pads, depthwise=depthwise)
    return lax.platform_dependent(*saved, g, cpu=cpu, default=plain)


_conv.defvjp(_conv_forward, _conv_backward)


def _plain(x: Array, kernel: Array, stride: int, pads: Pads, depthwise: bool) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] if depthwise else 1,
    )


def _pointwise(x: Array, kernel: Array) -> Array:
    return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())))


def _pointwise_gradient(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
    by_x = lax.dot_general(g, kernel[0, 0], (((3,), (1,)), ((), ())))
    by_kernel = lax.dot_general(x, g, (((0, 1, 2), (0, 1, 2)), ((), ())))
    return by_x, by_kernel[None, None]


def _windows(x: Array, kernel_size: int, stride: int, pads: Pads, out: tuple[int, int]) -> list[Array]:
    """The k² shifted slices of padded x [N, H, W, C], each [N, H', W', C], in the kernel's row-major order."""
    n, _, _, c = x.shape
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    return [
        lax.slice(
            x,
            (0, i, j, 0),
            (n, i + (out[0] - 1) * stride + 1, j + (out[1] - 1) * stride + 1, c),
            (1, stride, stride, 1),
        )
        for i in range(kernel_size)
        for j in range(kernel_size)
    ]


def _depthwise(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
    k = kernel.shape[0]
    out = tuple((size + sum(pad) - k) // stride + 1 for size, pad in zip(x.shape[1:3], pads, strict=True))
    taps = kernel.reshape(k * k, 1, 1, 1, -1).astype(jnp.float32)
    windows = _windows(x, k, stride, pads, (out[0], out[1]))
    return sum((w.astype(jnp.float32) * t for w, t in zip(windows, taps, strict=True)), start=jnp.float32(0)).astype(
        x.dtype
    )


def _spatial_gradient(
    x: Array, kernel: Array, g: Array, stride: int, pads: Pads, depthwise: bool
) -> tuple[Array, Array]:
    k = kernel.shape[0]
    flipped = jnp.flip(kernel, (0, 1))
    zero = jnp.zeros((), g.dtype)
    spread = [(0, 0, 0)]
    for size, out, (before, _) in zip(x.shape[1:3], g.shape[1:3], pads, strict=True):
        low = k - 1 - before
        spread.append((low, size + k - 1 - low - ((out - 1) * stride + 1), stride - 1))
    spread_g = lax.pad(g, zero, [*spread, (0, 0, 0)])
    none = ((0, 0), (0, 0))
    windows = _windows(x, k, stride, pads, (g.shape[1], g.shape[2]))
    if depthwise:
        by_x = _depthwise(spread_g, flipped, 1, none)
        by_kernel = jnp.stack([(w.astype(jnp.float32) * g.astype(jnp.float32)).sum((0, 1, 2)) for w in windows])
    else:
        by_x = _plain(spread_g, flipped.swapaxes(2, 3), 1, none, False)
        contract = (((0, 1, 2), (0, 1, 2)), ((), ()))
        by_kernel = jnp.stack([lax.dot_general(w, g, contract, preferred_element_type=jnp.float32) for w in windows])
    return by_x, by_kernel.reshape(kernel.shape).astype(kernel.dtype)
