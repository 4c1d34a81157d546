"""Pixel maps of nearest-neighbour rotation, shear and translation, in TensorFlow's exact float32 arithmetic.

A pixel map gives, for each pixel of the result, the pixel of the image that it is read from.

Source: TensorFlow's ImageProjectiveTransformV3 (nearest, constant fill) and the matrices of tensorflow_addons'
image.rotate, image.translate and image.transform, which the official operations call.
"""

import math
from collections.abc import Callable

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf

PixelMap = Callable[[float, int, int], np.ndarray]
"""`(argument, height, width)` → int32 `[height · width]`, the flat index that each pixel reads.

The index `height · width` stands for a pixel outside of the image.
"""


def shear_x(level: float, height: int, width: int) -> np.ndarray:
    """Moves row y by `-level · y` pixels; the first row stays."""
    return _affine((1.0, level, 0.0, 0.0, 1.0, 0.0), height, width)


def shear_y(level: float, height: int, width: int) -> np.ndarray:
    """Moves column x by `-level · x` pixels; the first column stays."""
    return _affine((1.0, 0.0, 0.0, level, 1.0, 0.0), height, width)


def translation_x(pixels: float, height: int, width: int) -> np.ndarray:
    """Moves the image to the left by `pixels`."""
    return _affine((1.0, 0.0, pixels, 0.0, 1.0, 0.0), height, width)


def translation_y(pixels: float, height: int, width: int) -> np.ndarray:
    """Moves the image up by `pixels`."""
    return _affine((1.0, 0.0, 0.0, 0.0, 1.0, pixels), height, width)


def rotation(degrees: float, height: int, width: int) -> np.ndarray:
    """Turns the image about its centre."""
    radians = np.float32(degrees) * np.float32(math.pi / 180.0)
    with tf.init_scope():  # TensorFlow's float32 sine and cosine; NumPy's may differ in the last bit
        cos, sin = (function(tf.constant([radians])).numpy()[0] for function in (tf.cos, tf.sin))
    right, bottom, two = np.float32(width - 1), np.float32(height - 1), np.float32(2)
    x_offset = (right - (cos * right - sin * bottom)) / two
    y_offset = (bottom - (sin * right + cos * bottom)) / two
    return _affine((cos, -sin, x_offset, sin, cos, y_offset), height, width)


def _affine(matrix: tuple[float, float, float, float, float, float], height: int, width: int) -> np.ndarray:
    """Returns the map in which pixel (x, y) reads (a·x + b·y + c, d·x + e·y + f) for `matrix` = (a, b, c, d, e, f)."""
    a, b, c, d, e, f = (np.float32(value) for value in matrix)
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    column, row = _round_half_away(a * x + b * y + c), _round_half_away(d * x + e * y + f)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(inside, row * width + column, height * width).astype(np.int32).ravel()


def _round_half_away(value: np.ndarray) -> np.ndarray:
    """Rounds halves away from zero, as C's `round` does. The fraction is exact, so that it compares right."""
    whole = np.trunc(value)
    return whole + np.where(np.abs(value - whole) >= 0.5, np.sign(value), np.float32(0))
