"""The pixel operations of RandAugment and AutoAugment, on uint8 images `[H, W, 3]` of static shape.

Every kernel is called as `kernel(image, argument, draws)` and gives exactly the official code's pixels, except for
`contrast_with_mean`. A kernel gives the same bits whether TensorFlow runs it operation by operation or XLA compiles it
(see `_product`).

Source: google/automl efficientnetv2/autoaugment.py, RandAugment (arXiv 1909.13719).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from effnetv2_jax.data.augment.geometry import PixelMap
from effnetv2_jax.data.cpu_tensorflow import tf

_FILL = 128
_LEVELS = np.arange(256)


class Draws(NamedTuple):
    """The random part of one application of an operation, or of `n` applications with a leading dimension `n`.

    Attributes:
      negative: bool `[…]`, whether a signed operation (rotation, shear, translation) negates its argument.
      centre: float32 `[…, 2]` in 0..1, the centre of a cutout as shares of height and width.
    """

    negative: tf.Tensor
    centre: tf.Tensor


Kernel = Callable[[tf.Tensor, float, Draws], tf.Tensor]


# --- arithmetic -----------------------------------------------------------------------------------------------------


def _product(values: tf.Tensor, factor: tf.Tensor | np.float32) -> tf.Tensor:
    """Returns `values · factor` in float32, rounded on its own.

    The bound of `tf.minimum` is too large to change a value. It keeps a compiler from fusing the product with a sum
    that follows, or from merging two factors into one. Either would round differently.
    """
    return tf.minimum(tf.cast(values, tf.float32) * factor, np.float32(1e9))


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Clips to 0..255 and drops the fraction."""
    return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)


def _rows(image: tf.Tensor) -> tf.Tensor:
    """Returns `[H, W, C]` as `[H, W · C]`, because XLA vectorises along the last axis and 3 channels are too few."""
    height, width, channels = image.shape
    return tf.reshape(image, [height, width * channels])


# --- point operations -----------------------------------------------------------------------------------------------


def invert(image: tf.Tensor, _argument: float, _draws: Draws) -> tf.Tensor:
    """Replaces every value `v` by `255 - v`."""
    return 255 - image


def posterize(image: tf.Tensor, shift: float, _draws: Draws) -> tf.Tensor:
    """Clears the lowest `shift` bits of every value."""
    return image & np.uint8(255 >> int(shift) << int(shift))


def solarize(image: tf.Tensor, threshold: float, _draws: Draws) -> tf.Tensor:
    """Inverts the values that are at least `threshold`."""
    return tf.where(tf.cast(image, tf.int32) < int(threshold), image, 255 - image)


def solarize_add(image: tf.Tensor, addition: float, _draws: Draws) -> tf.Tensor:
    """Adds `addition` to the values below 128."""
    return tf.where(image < 128, _to_uint8(tf.cast(image, tf.int32) + int(addition)), image)


def auto_contrast(image: tf.Tensor, _argument: float, _draws: Draws) -> tf.Tensor:
    """Stretches each channel to 0..255."""
    rows = _rows(image)
    low, high = (
        tf.cast(extreme(tf.reshape(extreme(rows, 0), image.shape[1:]), 0), tf.float32)
        for extreme in (tf.reduce_min, tf.reduce_max)
    )
    span = high - low
    scale = tf.where(span > 0, 255.0 / tf.maximum(span, 1.0), 1.0)
    return _to_uint8(_product(image, scale) - tf.where(span > 0, _product(low, scale), 0.0))


def equalize(image: tf.Tensor, _argument: float, _draws: Draws) -> tf.Tensor:
    """Equalises the histogram of each channel."""
    index = tf.cast(image, tf.int32) + tf.constant([0, 256, 512])  # into a table with 256 entries for each channel
    bins = tf.reshape(index, [-1])
    counts = tf.reshape(tf.math.unsorted_segment_sum(tf.ones_like(bins), bins, 768), [3, 256])
    last = tf.reduce_max(tf.where(counts > 0, tf.constant(_LEVELS, tf.int32), 0), axis=1)
    step = (tf.reduce_sum(counts, axis=1) - tf.gather(counts, last, axis=1, batch_dims=1)) // 255
    step = step[:, None]
    darker = tf.cumsum(counts, axis=1, exclusive=True)
    table = (darker + step // 2) // tf.maximum(step, 1)
    table = tf.where(step > 0, table, tf.constant(_LEVELS, tf.int32))
    return tf.gather(tf.reshape(_to_uint8(table), [768]), index)


# --- blends: degenerate + factor · (image − degenerate), truncated --------------------------------------------------


def _blend(degenerate: tf.Tensor, image: tf.Tensor, factor: float) -> tf.Tensor:
    if factor == 1.0:
        return image
    degenerate = tf.cast(degenerate, tf.float32)
    return _to_uint8(degenerate + _product(tf.cast(image, tf.float32) - degenerate, np.float32(factor)))


def _grey(image: tf.Tensor) -> tf.Tensor:
    """Returns TensorFlow's rgb_to_grayscale, uint8 `[H, W, 1]`; the two agree on all 2^24 colours."""
    shares = _product(image, np.float32(1 / 255))
    red, green, blue = (
        _product(shares[..., channel : channel + 1], np.float32(weight))
        for channel, weight in enumerate((0.2989, 0.5870, 0.1140))
    )
    return tf.cast((red + green + blue) * 255.5, tf.uint8)


def brightness(image: tf.Tensor, factor: float, _draws: Draws) -> tf.Tensor:
    """Blends with black."""
    return _blend(tf.constant(0, tf.uint8), image, factor)


def color(image: tf.Tensor, factor: float, _draws: Draws) -> tf.Tensor:
    """Blends with the grey image."""
    return _blend(_grey(image), image, factor)


def contrast_with_pixel_count(image: tf.Tensor, factor: float, _draws: Draws) -> tf.Tensor:
    """Blends with a grey that depends only on the image's size, and is white from 256 x 256 pixels on.

    The official code is meant to use the mean grey. But it divides the sum of the histogram by 256, and that sum is the
    number of pixels.
    """
    height, width, _ = image.shape
    return _blend(tf.constant(min(height * width // 256, 255), tf.uint8), image, factor)


def contrast_with_mean(image: tf.Tensor, factor: float, _draws: Draws) -> tf.Tensor:
    """Blends with the mean grey, `int(mean of the grey image + 0.5)`. Source: Pillow's ImageEnhance.Contrast."""
    grey = tf.cast(_grey(image), tf.int32)
    pixels = tf.size(grey)
    flat = (2 * tf.reduce_sum(grey) + pixels) // (2 * pixels)
    return _blend(tf.cast(flat, tf.uint8), image, factor)


def sharpness(image: tf.Tensor, factor: float, _draws: Draws) -> tf.Tensor:
    """Blends with a smoothed image; the pixels at the edges keep their values."""
    height, width, channels = image.shape
    rows = _rows(image)
    light, heavy = (_product(rows, np.float32(weight) / np.float32(13)) for weight in (1, 5))
    total = tf.zeros([height - 2, (width - 2) * channels])
    for row in range(3):  # the order in which TensorFlow's convolution adds them without oneDNN
        for column in range(3):
            weighted = heavy if row == column == 1 else light
            total += weighted[row : row + height - 2, column * channels : (column + width - 2) * channels]
    inside = _blend(_to_uint8(total), rows[1:-1, channels:-channels], factor)
    middle = tf.concat([rows[1:-1, :channels], inside, rows[1:-1, -channels:]], axis=1)
    return tf.reshape(tf.concat([rows[:1], middle, rows[-1:]], axis=0), image.shape)


# --- geometric operations and cutout --------------------------------------------------------------------------------


def geometric(pixel_map: PixelMap) -> Kernel:
    """Returns the kernel that moves pixels by a pixel map and fills the rest with grey."""

    def kernel(image: tf.Tensor, argument: float, draws: Draws) -> tf.Tensor:
        height, width, _ = image.shape
        positive, negative = (pixel_map(sign * argument, height, width) for sign in (1.0, -1.0))
        outside = tf.constant(_FILL, tf.uint8, [1, 3])
        pixels = tf.concat([tf.reshape(image, [height * width, 3]), outside], axis=0)
        return tf.reshape(tf.gather(pixels, tf.where(draws.negative, negative, positive)), [height, width, 3])

    return kernel


def cutout(image: tf.Tensor, half_side: float, draws: Draws) -> tf.Tensor:
    """Fills a square of `2 · half_side` pixels with grey."""
    return tf.where(cutout_mask(image.shape[0], image.shape[1], int(half_side), draws.centre), np.uint8(_FILL), image)


def cutout_mask(height: int, width: int, half_side: int, centre: tf.Tensor) -> tf.Tensor:
    """Returns the mask of a cutout. It reaches from `half_side` pixels before the centre to `half_side - 1` after it.

    Args:
      height: height of the image in pixels.
      width: width of the image in pixels.
      half_side: half the side of the square in pixels.
      centre: float32 `[2]` in 0..1; the centre pixel is `floor(centre · [height, width])`.

    Returns:
      bool `[height, width, 1]`.
    """
    middle = tf.cast(centre * tf.constant([height, width], tf.float32), tf.int32)
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    in_rows = (rows >= middle[0] - half_side) & (rows < middle[0] + half_side)
    return in_rows & (columns >= middle[1] - half_side) & (columns < middle[1] + half_side)
