"""Encoded bytes and a seed to one image: decode, crop, resize, flip. Pure functions of their arguments."""

import functools
from collections.abc import Callable

import numpy as np

from effnetv2_jax.data.augment.operations import cutout_mask
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.families import MAX_PIXELS, PreprocessingFamily

# What a seed is used for. Each use draws from its own stream.
CROP, FLIP, AUGMENTATION, CUTOUT = range(4)

Window = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]  # top, left, height, width


def seed_for(seed: tf.Tensor, use: int) -> tf.Tensor:
    """The stateless seed (int64 `[2]`) of one use of an image's seed."""
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
    """Decodes a random crop of one image, or all of it where the family does not crop.

    Args:
      data: scalar string, an encoded image.
      seed: int64 `[2]`; the same seed gives the same crop.
      family: how to crop.
      image_size: height and width that the crop will be resized to, in pixels.
      min_crop_area: least share of the image that a crop covers; 0 for the family's own.
      scaled: whether to decode a JPEG's crop at 1/2, 1/4 or 1/8 of its size where that is still `image_size` pixels.

    Returns:
      uint8 `[h, w, 3]`.

    Raises:
      tf.errors.OpError: the image is broken or larger than `MAX_PIXELS`.
    """
    area = (min_crop_area, 1.0) if min_crop_area else family.crop_area

    def window(height: tf.Tensor, width: tf.Tensor) -> Window:
        if area is None:
            return tf.constant(0), tf.constant(0), height, width
        return _random_window(height, width, seed_for(seed, CROP), family, area, image_size)

    return decode_window(data, window, least_size=image_size if scaled else 0)


def flipped(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors an image for every other seed."""
    mirrored = tf.random.stateless_uniform([], seed_for(seed, FLIP), alg="philox") < 0.5
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)


def evaluation_image(image: tf.Tensor, *, family: PreprocessingFamily, image_size: int, crop: bool) -> tf.Tensor:
    """Resizes a decoded image: its central square if `crop`, else the whole of it, squashed.

    Returns:
      float32 `[image_size, image_size, 3]`, 0..255; bicubic may overshoot.
    """
    if crop:
        height, width = tf.unstack(tf.shape(image)[:2])
        top, left, side, _ = _centre_window(height, width, family, image_size)
        image = image[top : top + side, left : left + side]
    return resize(image, image_size, family)


def resize(image: tf.Tensor, image_size: int, family: PreprocessingFamily) -> tf.Tensor:
    """Resizes `[H, W, 3]` to float32 `[image_size, image_size, 3]` as the official code of the family does.

    The result is 0..255; bicubic may overshoot."""
    size = [image_size, image_size]
    if family.interpolation == "bicubic":
        resized = tf.compat.v1.image.resize_bicubic(image[None], size)[0]
    else:
        resized = tf.image.resize(image, size)
    return tf.ensure_shape(resized, [image_size, image_size, 3])


def rounded(image: tf.Tensor) -> tf.Tensor:
    """The uint8 image nearest to a float image.

    Deviation: the official code hands on the floats. This costs at most half a grey level, and bicubic overshoot
    outside 0..255 (up to 12 levels in 0.8 % of the pixels of a photograph full of edges).
    """
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def truncated(image: tf.Tensor) -> tf.Tensor:
    """The uint8 image that the official code gives to its augmentation: clipped, the fraction dropped."""
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)


def noise_cutout(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Covers a square of half-side `image_size // 4` with noise, as the official fine-tuning does.

    Deviation: the official noise has as many levels as a float, ours 128.

    Args:
      image: uint8 `[S, S, 3]`.
      seed: int64 `[2]`; draws the centre and the noise.

    Returns:
      uint8 `[S, S, 3]`; the noise is uniform in 128..255, which is [0, 1) to a network fed with -1..1.
    """
    draws = tf.random.stateless_uniform([3], seed, minval=None, maxval=None, dtype=tf.int64, alg="philox")
    size = image.shape[0]
    centre = tf.random.stateless_uniform([2], draws[:2], alg="philox")
    noise = tf.random.stateless_uniform(image.shape, draws[1:], 128, 256, tf.int32, alg="philox")
    return tf.where(cutout_mask(size, size, size // 4, centre), tf.cast(noise, tf.uint8), image)


def decode_window(data: tf.Tensor, window: Callable[[tf.Tensor, tf.Tensor], Window], least_size: int = 0) -> tf.Tensor:
    """Decodes the part of an image that `window(height, width)` names; of a JPEG nothing else is decoded.

    The pixels are those of decoding everything and cutting the part out.

    Args:
      data: scalar string.
      window: where the part lies.
      least_size: if not 0, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as the part keeps this many
        pixels in both directions.

    Returns:
      uint8 `[height, width, 3]`.
    """

    def jpeg() -> tf.Tensor:
        shape = tf.io.extract_jpeg_shape(data)
        _require_allowed_size(shape[0], shape[1])
        top, left, height, width = window(shape[0], shape[1])

        def exact() -> tf.Tensor:
            # With a neighbour on either side: a column's colours are interpolated from those beside it.
            first = tf.maximum(left - 1, 0)
            end = tf.minimum(left + width + 1, shape[1])
            wider = tf.io.decode_and_crop_jpeg(data, tf.stack([top, first, height, end - first]), channels=3)
            return wider[:, left - first : left - first + width]

        def scaled(ratio: int) -> tf.Tensor:
            part = tf.stack([top, left, height, width]) // ratio
            return tf.io.decode_and_crop_jpeg(data, part, channels=3, ratio=ratio)

        if not least_size:
            return exact()
        halvings = sum(tf.cast(tf.minimum(height, width) >= ratio * least_size, tf.int32) for ratio in (2, 4, 8))
        return tf.switch_case(halvings, [exact, *(functools.partial(scaled, ratio) for ratio in (2, 4, 8))])

    def other() -> tf.Tensor:
        image = _decode_other(data)
        top, left, height, width = window(tf.shape(image)[0], tf.shape(image)[1])
        return image[top : top + height, left : left + width]

    return tf.cond(tf.io.is_jpeg(data), jpeg, other)


@functools.partial(tf.function, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def decode(data: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG, PNG, GIF (first frame), WebP or BMP to uint8 `[H, W, 3]`, told apart by content, not by name.

    JPEGs with TensorFlow's default, the fast inverse DCT, as the official code; it differs from Pillow's accurate one
    by 1 level on average and by up to 14. Orientation tags are ignored, transparency is dropped.

    Raises:
      tf.errors.OpError: the bytes are no such image, are cut short, or announce more than `MAX_PIXELS`.
    """

    def jpeg() -> tf.Tensor:
        shape = tf.io.extract_jpeg_shape(data)
        _require_allowed_size(shape[0], shape[1])
        return tf.io.decode_jpeg(data, channels=3)

    return tf.cond(tf.io.is_jpeg(data), jpeg, lambda: _decode_other(data))


def _decode_other(data: tf.Tensor) -> tf.Tensor:
    def png() -> tf.Tensor:
        # The header chunk comes first: width and height are bytes 16..23, big-endian.
        size = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)
        _require_allowed_size(size[1], size[0])
        return tf.io.decode_png(data, channels=3)

    def pillow() -> tf.Tensor:
        image = tf.ensure_shape(tf.numpy_function(_decode_with_pillow, [data], tf.uint8), [None, None, 3])
        with tf.control_dependencies([tf.debugging.Assert(tf.size(image) > 0, ["no image that can be decoded"])]):
            return tf.identity(image)

    return tf.cond(tf.strings.substr(data, 0, 8) == b"\x89PNG\r\n\x1a\n", png, pillow)


def _decode_with_pillow(data: bytes) -> np.ndarray:
    """Returns uint8 `[H, W, 3]`, empty for what is no image: of each exception TensorFlow would log the traceback."""
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("GIF", "WEBP", "BMP")) as image:
            if image.width * image.height <= MAX_PIXELS:
                return np.asarray(image.convert("RGB"))
    except Exception:  # whatever a decoder raises of damaged bytes
        pass
    return np.zeros((0, 0, 3), np.uint8)


def _require_allowed_size(height: tf.Tensor, width: tf.Tensor) -> None:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    tf.debugging.Assert((height > 0) & (width > 0) & (pixels <= MAX_PIXELS), ["too many pixels", height, width])


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
    centre = _centre_window(height, width, family, image_size)
    return tuple(tf.where(whole, central, random) for central, random in zip(centre, window, strict=True))


def _centre_window(height: tf.Tensor, width: tf.Tensor, family: PreprocessingFamily, image_size: int) -> Window:
    # Source: google/automl efficientnetv2/preprocessing.py and preprocess_legacy.py; 32 px of border at ImageNet's 224.
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.cast(image_size / (image_size + 32) * shorter, tf.int32)
    side = tf.maximum(side, 1)  # Deviation: the official crop of a one-pixel-high image is empty, and fails
    rounding = family.eval_crop_rounding
    return (height - side + rounding) // 2, (width - side + rounding) // 2, side, side
