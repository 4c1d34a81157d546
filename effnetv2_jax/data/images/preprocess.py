"""Crops, resizes and flips one image, and covers a part of it with noise. All functions are pure."""

from effnetv2_jax.data.augment.kernels import cutout_mask
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.images.decoding import Window, decode_window
from effnetv2_jax.data.images.families import PreprocessingFamily

CROP, FLIP, AUGMENTATION, CUTOUT = range(4)
"""The uses of an image's seed. Each use has a random stream of its own."""


def seed_for(seed: tf.Tensor, use: int) -> tf.Tensor:
    """Returns the stateless seed, int64 `[2]`, that one use of an image's seed draws with."""
    return seed + tf.constant([0, use], tf.int64)


def training_crop(
    data: tf.Tensor,
    seed: tf.Tensor,
    *,
    family: PreprocessingFamily,
    image_size: int,
    min_crop_area: float = 0.0,
    scaled: bool = False,
) -> tf.Tensor:
    """Decodes a random crop of one image, or the whole image if the family does not crop and `min_crop_area` is 0.

    Args:
      data: scalar string, an encoded image.
      seed: int64 `[2]`; the same seed gives the same crop.
      family: how to crop.
      image_size: height and width in pixels that the crop will be resized to.
      min_crop_area: least share of the image that a crop covers; 0 for the family's own.
      scaled: whether to decode a JPEG's crop at the smallest of 1/2, 1/4 and 1/8 of its size at which it still has
        `image_size` pixels in both directions.

    Returns:
      uint8 `[h, w, 3]`.

    Raises:
      tf.errors.OpError: if the image is broken or larger than `MAX_PIXELS`.
    """
    area = (min_crop_area, 1.0) if min_crop_area else family.crop_area

    def window(height: tf.Tensor, width: tf.Tensor) -> Window:
        if area is None:
            return tf.constant(0), tf.constant(0), height, width
        return _random_window(height, width, seed_for(seed, CROP), family, area, image_size)

    return decode_window(data, window, least_size=image_size if scaled else 0)


def flipped(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors the image for half of all seeds."""
    mirrored = tf.random.stateless_uniform([], seed_for(seed, FLIP), alg="philox") < 0.5
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)


def evaluation_image(image: tf.Tensor, *, family: PreprocessingFamily, image_size: int, crop: bool) -> tf.Tensor:
    """Resizes the central square of a decoded image if `crop`, else squashes the whole image.

    Returns:
      float32 `[image_size, image_size, 3]` in 0..255, except where bicubic interpolation overshoots.
    """
    if crop:
        height, width = tf.unstack(tf.shape(image)[:2])
        top, left, side, _ = _central_window(height, width, family, image_size)
        image = image[top : top + side, left : left + side]
    return resize(image, image_size, family)


def resize(image: tf.Tensor, image_size: int, family: PreprocessingFamily) -> tf.Tensor:
    """Resizes `[H, W, 3]` to float32 `[image_size, image_size, 3]` as the official code of the family does.

    The values are in 0..255, except where bicubic interpolation overshoots.
    """
    size = [image_size, image_size]
    if family.interpolation == "bicubic":
        resized = tf.compat.v1.image.resize_bicubic(image[None], size)[0]
    else:
        resized = tf.image.resize(image, size)
    return tf.ensure_shape(resized, [image_size, image_size, 3])


def rounded(image: tf.Tensor) -> tf.Tensor:
    """Returns the uint8 image nearest to a float image.

    Deviation: the official code keeps the floats. Rounding costs at most half a grey level, and bicubic overshoot
    outside 0..255 is lost (up to 12 levels in 0.8 % of the pixels of a photograph full of edges).
    """
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def truncated(image: tf.Tensor) -> tf.Tensor:
    """Returns the uint8 image that the official code augments: clipped, with the fraction dropped."""
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)


def noise_cutout(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Covers a square of half-side `image_size // 4` with noise, as the official fine-tuning does.

    Deviation: this noise has 128 levels; the official noise has as many as a float.

    Args:
      image: uint8 `[S, S, 3]`.
      seed: int64 `[2]`; determines the centre and the noise.

    Returns:
      uint8 `[S, S, 3]`. The noise is uniform in 128..255, which is about 0..1 after pixels are normalised to -1..1.
    """
    draws = tf.random.stateless_uniform([3], seed, minval=None, maxval=None, dtype=tf.int64, alg="philox")
    size = image.shape[0]
    centre = tf.random.stateless_uniform([2], draws[:2], alg="philox")
    noise = tf.random.stateless_uniform(image.shape, draws[1:], 128, 256, tf.int32, alg="philox")
    return tf.where(cutout_mask(size, size, size // 4, centre), tf.cast(noise, tf.uint8), image)


def _random_window(
    height: tf.Tensor,
    width: tf.Tensor,
    seed: tf.Tensor,
    family: PreprocessingFamily,
    area: tuple[float, float],
    image_size: int,
) -> Window:
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.stack([height, width, 3]),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed,
        min_object_covered=family.min_object_covered,
        aspect_ratio_range=family.crop_aspect,
        area_range=area,
        max_attempts=family.crop_attempts,
    )
    window = begin[0], begin[1], size[0], size[1]
    if not family.whole_image_becomes_centre:
        return window
    whole = (size[0] == height) & (size[1] == width)
    centre = _central_window(height, width, family, image_size)
    return tuple(tf.where(whole, central, random) for central, random in zip(centre, window, strict=True))


def _central_window(height: tf.Tensor, width: tf.Tensor, family: PreprocessingFamily, image_size: int) -> Window:
    square = family.central_square(tf.cast(height, tf.float32), tf.cast(width, tf.float32), image_size, tf)
    top, left, side = (tf.cast(value, tf.int32) for value in square)
    return top, left, side, side
