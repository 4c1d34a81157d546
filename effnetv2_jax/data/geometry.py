"""Nearest-neighbour rotation, shear and translation with TensorFlow's exact coordinates.

Source: TensorFlow's ImageProjectiveTransformV3 (nearest, constant fill) and the matrices of tensorflow_addons'
image.rotate, image.translate and image.transform, which the official operations call.
"""

import math
from typing import NamedTuple

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf


class Transform(NamedTuple):
    """Where each output pixel (y, x) reads: source x = x_of_x[x] + x_of_y[y] + x_offset, source y alike.

    All float32. The products with the matrix are ready-made, so that only additions remain for the kernel.

    Attributes:
      x_of_x: `[W]`.
      x_of_y: `[H]`.
      x_offset: scalar.
      y_of_x: `[W]`.
      y_of_y: `[H]`.
      y_offset: scalar.
    """

    x_of_x: np.ndarray
    x_of_y: np.ndarray
    x_offset: np.float32
    y_of_x: np.ndarray
    y_of_y: np.ndarray
    y_offset: np.float32


def affine(matrix: tuple[float, float, float, float, float, float], height: int, width: int) -> Transform:
    """The transform that reads pixel (x, y) from (a·x + b·y + c, d·x + e·y + f) for `matrix` = (a, b, c, d, e, f)."""
    a, b, c, d, e, f = (np.float32(value) for value in matrix)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    return Transform(a * x, b * y, c, d * x, e * y, f)


def shear_x(level: float, height: int, width: int) -> Transform:
    """Moves row y by `-level · y` pixels; the first row stays."""
    return affine((1.0, level, 0.0, 0.0, 1.0, 0.0), height, width)


def shear_y(level: float, height: int, width: int) -> Transform:
    """Moves column x by `-level · x` pixels; the first column stays."""
    return affine((1.0, 0.0, 0.0, level, 1.0, 0.0), height, width)


def translation_x(pixels: float, height: int, width: int) -> Transform:
    """Moves the image `pixels` to the left."""
    return affine((1.0, 0.0, pixels, 0.0, 1.0, 0.0), height, width)


def translation_y(pixels: float, height: int, width: int) -> Transform:
    """Moves the image up by `pixels`."""
    return affine((1.0, 0.0, 0.0, 0.0, 1.0, pixels), height, width)


def rotation(degrees: float, height: int, width: int) -> Transform:
    """Turns the image about its centre, counter-clockwise as one sees it."""
    radians = np.float32(degrees) * np.float32(math.pi / 180.0)
    with tf.init_scope():  # TensorFlow's own float32 sine and cosine, which NumPy's may miss by one unit
        cos, sin = (function(tf.constant([radians])).numpy()[0] for function in (tf.cos, tf.sin))
    right, bottom, two = np.float32(width - 1), np.float32(height - 1), np.float32(2)
    x_offset = (right - (cos * right - sin * bottom)) / two
    y_offset = (bottom - (sin * right + cos * bottom)) / two
    return affine((cos, -sin, x_offset, sin, cos, y_offset), height, width)


def apply(image: tf.Tensor, positive: Transform, negative: Transform, negate: tf.Tensor, fill: int) -> tf.Tensor:
    """Applies `positive`, or `negative` where `negate`, to a uint8 `[H, W, 3]` image; the outside becomes `fill`."""
    height, width = image.shape[0], image.shape[1]
    part = Transform(*(tf.where(negate, minus, plus) for plus, minus in zip(positive, negative, strict=True)))
    x = _round_half_away(part.x_of_x[None, :] + part.x_of_y[:, None] + part.x_offset)
    y = _round_half_away(part.y_of_x[None, :] + part.y_of_y[:, None] + part.y_offset)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    pixels = tf.gather(tf.reshape(image, [height * width, 3]), tf.where(inside, y * width + x, 0))
    return tf.where(inside[..., None], pixels, tf.constant(fill, tf.uint8))


def _round_half_away(value: tf.Tensor) -> tf.Tensor:
    """C's `round` as int32. The fraction is exact, so the comparison is."""
    whole = tf.cast(value, tf.int32)
    fraction = value - tf.cast(whole, tf.float32)
    return whole + tf.cast(fraction >= 0.5, tf.int32) - tf.cast(fraction <= -0.5, tf.int32)
