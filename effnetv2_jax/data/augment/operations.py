"""The sixteen operations of RandAugment and AutoAugment on uint8 images, as one table.

Every operation gives the official code's pixels exactly, and the same bits whether TensorFlow runs a kernel operation
by operation or XLA compiles it: see `_product`.

Source of the operations and their arguments: google/automl efficientnetv2/autoaugment.py, RandAugment (arXiv
1909.13719). Its quirks are in the "official" set; the "corrected" set differs in three rows, see `OPERATION_SETS`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from effnetv2_jax.data.augment import geometry
from effnetv2_jax.data.cpu_tensorflow import tf

_FILL = 128
_LEVELS = np.arange(256)
_REFERENCE_SIZE = 224  # pixels; the ImageNet size for which RandAugment's pixel constants were chosen


class Draws(NamedTuple):
    """What is random about an application of an operation, or about several, one a row.

    Attributes:
      negative: bool; the argument of a signed operation changes its sign.
      centre: float32 `[…, 2]` in 0..1, the centre of a cutout as shares of height and width.
    """

    negative: tf.Tensor
    centre: tf.Tensor


class Scales(NamedTuple):
    """Pixels per level 10 of the operations whose argument counts pixels."""

    translate: float
    cutout: float

    def relative_to(self, image_size: int) -> "Scales":
        """The same shares of an image of `image_size` pixels as these are of one of 224."""
        return Scales(*(scale * image_size / _REFERENCE_SIZE for scale in self))


RANDAUGMENT_SCALES = Scales(translate=100.0, cutout=40.0)
AUTOAUGMENT_SCALES = Scales(translate=250.0, cutout=100.0)

Kernel = Callable[[tf.Tensor, float, Draws], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Operation:
    """One row: `kernel(image, argument(level, scales), draws)` with level = magnitude / 10."""

    kernel: Kernel
    argument: Callable[[float, Scales], float]


# --- arithmetic -----------------------------------------------------------------------------------------------------


def _product(values: tf.Tensor, factor: tf.Tensor | np.float32) -> tf.Tensor:
    """`values · factor` in float32, rounded by itself: the bound, which nothing here reaches, keeps a compiler from
    contracting the product with a sum that follows, or two factors to one.
    """
    return tf.minimum(tf.cast(values, tf.float32) * factor, np.float32(1e9))


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Clipped to 0..255, the fraction dropped."""
    return tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)


def _rows(image: tf.Tensor) -> tf.Tensor:
    """`[H, W, C]` as `[H, W · C]`: XLA's CPU code vectorises along the last axis, and three channels are too few."""
    height, width, channels = image.shape
    return tf.reshape(image, [height, width * channels])


# --- point operations -----------------------------------------------------------------------------------------------


def _invert(image: tf.Tensor, argument: float, draws: Draws) -> tf.Tensor:
    return 255 - image


def _posterize(image: tf.Tensor, shift: float, draws: Draws) -> tf.Tensor:
    return image & np.uint8(255 >> int(shift) << int(shift))


def _solarize(image: tf.Tensor, threshold: float, draws: Draws) -> tf.Tensor:
    return tf.where(tf.cast(image, tf.int32) < int(threshold), image, 255 - image)


def _solarize_add(image: tf.Tensor, addition: float, draws: Draws) -> tf.Tensor:
    return tf.where(image < 128, _to_uint8(tf.cast(image, tf.int32) + int(addition)), image)


def _auto_contrast(image: tf.Tensor, argument: float, draws: Draws) -> tf.Tensor:
    rows = _rows(image)
    low, high = (
        tf.cast(extreme(tf.reshape(extreme(rows, 0), image.shape[1:]), 0), tf.float32)
        for extreme in (tf.reduce_min, tf.reduce_max)
    )
    span = high - low
    scale = tf.where(span > 0, 255.0 / tf.maximum(span, 1.0), 1.0)
    return _to_uint8(_product(image, scale) - tf.where(span > 0, _product(low, scale), 0.0))


def _equalize(image: tf.Tensor, argument: float, draws: Draws) -> tf.Tensor:
    index = tf.cast(image, tf.int32) + tf.constant([0, 256, 512])  # a row of the table for each channel
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
    """TensorFlow's rgb_to_grayscale, uint8 `[H, W, 1]`; equal for each of the 2^24 colours."""
    shares = _product(image, np.float32(1 / 255))
    red, green, blue = (
        _product(shares[..., channel : channel + 1], np.float32(weight))
        for channel, weight in enumerate((0.2989, 0.5870, 0.1140))
    )
    return tf.cast((red + green + blue) * 255.5, tf.uint8)


def _brightness(image: tf.Tensor, factor: float, draws: Draws) -> tf.Tensor:
    return _blend(tf.constant(0, tf.uint8), image, factor)


def _color(image: tf.Tensor, factor: float, draws: Draws) -> tf.Tensor:
    return _blend(_grey(image), image, factor)


def _contrast_with_pixel_count(image: tf.Tensor, factor: float, draws: Draws) -> tf.Tensor:
    # The official code takes the sum of the histogram for the mean: the number of pixels / 256, white above 256 px.
    height, width, _ = image.shape
    return _blend(tf.constant(min(height * width // 256, 255), tf.uint8), image, factor)


def _contrast_with_mean(image: tf.Tensor, factor: float, draws: Draws) -> tf.Tensor:
    # Source: Pillow's ImageEnhance.Contrast: int(mean of the grey image + 0.5).
    grey = tf.cast(_grey(image), tf.int32)
    pixels = tf.size(grey)
    flat = (2 * tf.reduce_sum(grey) + pixels) // (2 * pixels)
    return _blend(tf.cast(flat, tf.uint8), image, factor)


def _sharpness(image: tf.Tensor, factor: float, draws: Draws) -> tf.Tensor:
    height, width, channels = image.shape
    rows = _rows(image)
    light, heavy = (_product(rows, np.float32(weight) / np.float32(13)) for weight in (1, 5))
    total = tf.zeros([height - 2, (width - 2) * channels])
    for row in range(3):  # in the order in which TensorFlow's own convolution, without oneDNN, adds up
        for column in range(3):
            weighted = heavy if row == column == 1 else light
            total += weighted[row : row + height - 2, column * channels : (column + width - 2) * channels]
    inside = _blend(_to_uint8(total), rows[1:-1, channels:-channels], factor)
    middle = tf.concat([rows[1:-1, :channels], inside, rows[1:-1, -channels:]], axis=1)
    return tf.reshape(tf.concat([rows[:1], middle, rows[-1:]], axis=0), image.shape)


# --- geometric operations and cutout --------------------------------------------------------------------------------


def _geometric(source_map: geometry.SourceMap) -> Kernel:
    def kernel(image: tf.Tensor, argument: float, draws: Draws) -> tf.Tensor:
        height, width, _ = image.shape
        positive, negative = (source_map(sign * argument, height, width) for sign in (1.0, -1.0))
        outside = tf.constant(_FILL, tf.uint8, [1, 3])
        pixels = tf.concat([tf.reshape(image, [height * width, 3]), outside], axis=0)
        return tf.reshape(tf.gather(pixels, tf.where(draws.negative, negative, positive)), [height, width, 3])

    return kernel


def _cutout(image: tf.Tensor, half_side: float, draws: Draws) -> tf.Tensor:
    return tf.where(cutout_mask(image.shape[0], image.shape[1], int(half_side), draws.centre), np.uint8(_FILL), image)


def cutout_mask(height: int, width: int, half_side: int, centre: tf.Tensor) -> tf.Tensor:
    """Which pixels a cutout covers: `half_side` pixels before its centre, `half_side - 1` after it.

    Args:
      height: of the image in pixels.
      width: of the image in pixels.
      half_side: half the side of the square in pixels.
      centre: float32 `[2]` in 0..1; the centre pixel is `floor(centre · [height, width])`.

    Returns:
      bool `[height, width, 1]`.
    """
    middle = tf.cast(centre * tf.constant([height, width], tf.float32), tf.int32)
    rows, columns = tf.range(height)[:, None, None], tf.range(width)[None, :, None]
    in_rows = (rows >= middle[0] - half_side) & (rows < middle[0] + half_side)
    return in_rows & (columns >= middle[1] - half_side) & (columns < middle[1] + half_side)


# --- the table ------------------------------------------------------------------------------------------------------


def _nothing(level: float, scales: Scales) -> float:
    return 0.0


def _enhance(level: float, scales: Scales) -> float:
    return level * 1.8 + 0.1


def _shear(level: float, scales: Scales) -> float:
    return level * 0.3


def _translate(level: float, scales: Scales) -> float:
    return level * scales.translate


_OFFICIAL: dict[str, Operation] = {
    "AutoContrast": Operation(_auto_contrast, _nothing),
    "Equalize": Operation(_equalize, _nothing),
    "Invert": Operation(_invert, _nothing),
    "Rotate": Operation(_geometric(geometry.rotation), lambda level, scales: level * 30.0),
    # The shift is an unsigned byte: below 0 it wraps, and TensorFlow takes 7 for anything above 7.
    "Posterize": Operation(_posterize, lambda level, scales: min((8 - int(level * 4)) % 256, 7)),
    # The threshold is an unsigned byte too.
    "Solarize": Operation(_solarize, lambda level, scales: int(level * 256) % 256),
    "Color": Operation(_color, _enhance),
    "Contrast": Operation(_contrast_with_pixel_count, _enhance),
    "Brightness": Operation(_brightness, _enhance),
    "Sharpness": Operation(_sharpness, _enhance),
    "ShearX": Operation(_geometric(geometry.shear_x), _shear),
    "ShearY": Operation(_geometric(geometry.shear_y), _shear),
    "TranslateX": Operation(_geometric(geometry.translation_x), _translate),
    "TranslateY": Operation(_geometric(geometry.translation_y), _translate),
    "Cutout": Operation(_cutout, lambda level, scales: int(level * scales.cutout)),
    "SolarizeAdd": Operation(_solarize_add, lambda level, scales: int(level * 110)),
}

# Deviation: "corrected" mends three rows. Posterize keeps all bits above level 2 instead of one; Solarize inverts
# nothing above level 1 instead of what the wrapped threshold says; Contrast blends with the image's mean grey.
OPERATION_SETS: Mapping[str, Mapping[str, Operation]] = MappingProxyType(
    {
        "official": MappingProxyType(_OFFICIAL),
        "corrected": MappingProxyType(
            _OFFICIAL
            | {
                "Posterize": Operation(_posterize, lambda level, scales: min(max(8 - int(level * 4), 0), 7)),
                "Solarize": Operation(_solarize, lambda level, scales: int(level * 256)),
                "Contrast": Operation(_contrast_with_mean, _enhance),
            }
        ),
    }
)

OPERATION_NAMES = tuple(_OFFICIAL)


def operation_set(name: str) -> Mapping[str, Operation]:
    """Returns the operations called `name`.

    Raises:
      ValueError: there is no such set; the message lists the allowed names.
    """
    if name not in OPERATION_SETS:
        raise ValueError(f"unknown operations {name!r}; allowed: {', '.join(OPERATION_SETS)}")
    return OPERATION_SETS[name]
