"""A plain re-creation of the official input pipeline: a baseline for speed, and a reference for tests.

It works like efficientnetv2/preprocessing.py and autoaugment.py of google/automl: it decodes the whole image, each
operation is arithmetic over the whole image, and a layer of RandAugment is a chain of sixteen `tf.cond`. It was
written from a description of these files. Training does not use it.
"""

import math
from collections.abc import Callable

from effnetv2_jax.data.cpu_tensorflow import tf

_FILL = 128


def official_training_image(data: tf.Tensor, *, image_size: int, magnitude: float | None) -> tf.Tensor:
    """Turns an encoded image into a training image, float32 `[image_size, image_size, 3]` in -1..1.

    If `magnitude` is None, RandAugment is not applied.
    """
    image = tf.io.decode_image(data, channels=3, expand_animations=False)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(image),
        tf.zeros([0, 0, 4], tf.float32),
        area_range=(0.05, 1.0),
        min_object_covered=0,
        use_image_if_no_bounding_boxes=True,
    )
    image = tf.slice(image, begin, size)
    image.set_shape([None, None, 3])
    image = tf.image.random_flip_left_right(tf.image.resize(image, [image_size, image_size]))
    if magnitude is not None:
        image = official_randaugment(tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8), magnitude)
    return (tf.cast(image, tf.float32) - 128.0) / 128.0


def official_randaugment(image: tf.Tensor, magnitude: float) -> tf.Tensor:
    """Applies two random operations of RandAugment to a uint8 `[H, W, 3]` image."""
    for _ in range(2):
        chosen = tf.random.uniform([], maxval=len(OPERATIONS), dtype=tf.int32)
        for index, name in enumerate(OPERATIONS):
            image = tf.cond(
                chosen == index,
                lambda name=name, image=image: official_operation(image, name, magnitude, _random_sign()),
                lambda image=image: image,
            )
    return image


def official_operation(image: tf.Tensor, name: str, magnitude: float, sign: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Applies one operation to a uint8 `[H, W, 3]` image.

    `sign` (1 or -1) is the direction of a rotation, shear or translation.
    """
    return OPERATIONS[name](image, magnitude / 10.0, sign)


def _random_sign() -> tf.Tensor:
    return tf.where(tf.random.uniform([]) < 0.5, -1.0, 1.0)


def _blend(degenerate: tf.Tensor, image: tf.Tensor, factor: float) -> tf.Tensor:
    if factor == 1.0:
        return image
    low, high = tf.cast(degenerate, tf.float32), tf.cast(image, tf.float32)
    return tf.cast(tf.clip_by_value(low + factor * (high - low), 0.0, 255.0), tf.uint8)


def _auto_contrast(image: tf.Tensor, _level: float, _sign: tf.Tensor | float) -> tf.Tensor:
    def stretched(channel: tf.Tensor) -> tf.Tensor:
        low = tf.cast(tf.reduce_min(channel), tf.float32)
        high = tf.cast(tf.reduce_max(channel), tf.float32)

        def stretch() -> tf.Tensor:
            scale = 255.0 / (high - low)
            return tf.cast(tf.clip_by_value(tf.cast(channel, tf.float32) * scale + -low * scale, 0.0, 255.0), tf.uint8)

        return tf.cond(high > low, stretch, lambda: channel)

    return tf.stack([stretched(image[..., channel]) for channel in range(3)], 2)


def _equalize(image: tf.Tensor, _level: float, _sign: tf.Tensor | float) -> tf.Tensor:
    def equalized(channel: tf.Tensor) -> tf.Tensor:
        values = tf.cast(channel, tf.int32)
        counts = tf.histogram_fixed_width(values, [0, 255], nbins=256)
        present = tf.boolean_mask(counts, counts != 0)
        step = (tf.reduce_sum(present) - present[-1]) // 255

        def table() -> tf.Tensor:
            sums = (tf.cumsum(counts) + step // 2) // step
            return tf.gather(tf.clip_by_value(tf.concat([[0], sums[:-1]], 0), 0, 255), values)

        return tf.cast(tf.cond(step == 0, lambda: values, table), tf.uint8)

    return tf.stack([equalized(image[..., channel]) for channel in range(3)], 2)


def _contrast(image: tf.Tensor, level: float, _sign: tf.Tensor | float) -> tf.Tensor:
    grey = tf.cast(tf.image.rgb_to_grayscale(image), tf.int32)
    counts = tf.histogram_fixed_width(grey, [0, 255], nbins=256)
    flat = tf.clip_by_value(
        tf.ones_like(grey, tf.float32) * (tf.reduce_sum(tf.cast(counts, tf.float32)) / 256.0), 0, 255
    )
    return _blend(tf.image.grayscale_to_rgb(tf.cast(flat, tf.uint8)), image, level * 1.8 + 0.1)


def _color(image: tf.Tensor, level: float, _sign: tf.Tensor | float) -> tf.Tensor:
    return _blend(tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image)), image, level * 1.8 + 0.1)


def _sharpness(image: tf.Tensor, level: float, _sign: tf.Tensor | float) -> tf.Tensor:
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32, [3, 3, 1, 1]) / 13.0
    smooth = tf.nn.depthwise_conv2d(
        tf.cast(image, tf.float32)[None], tf.tile(kernel, [1, 1, 3, 1]), [1, 1, 1, 1], "VALID"
    )[0]
    smooth = tf.cast(tf.clip_by_value(smooth, 0.0, 255.0), tf.uint8)
    inside = tf.pad(tf.ones_like(smooth), [[1, 1], [1, 1], [0, 0]]) == 1
    return _blend(tf.where(inside, tf.pad(smooth, [[1, 1], [1, 1], [0, 0]]), image), image, level * 1.8 + 0.1)


def _posterize(image: tf.Tensor, level: float, _sign: tf.Tensor | float) -> tf.Tensor:
    shift = tf.constant((8 - int(level * 4)) % 256, tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def _solarize(image: tf.Tensor, level: float, _sign: tf.Tensor | float) -> tf.Tensor:
    return tf.where(image < tf.constant(int(level * 256) % 256, tf.uint8), image, 255 - image)


def _solarize_add(image: tf.Tensor, level: float, _sign: tf.Tensor | float) -> tf.Tensor:
    added = tf.clip_by_value(tf.cast(image, tf.int64) + int(level * 110), 0, 255)
    return tf.where(image < 128, tf.cast(added, tf.uint8), image)


def _cutout(image: tf.Tensor, level: float, _sign: tf.Tensor | float) -> tf.Tensor:
    height, width, half = tf.shape(image)[0], tf.shape(image)[1], int(level * 40)
    row = tf.random.uniform([], maxval=height, dtype=tf.int32)
    column = tf.random.uniform([], maxval=width, dtype=tf.int32)
    top, bottom = tf.maximum(0, row - half), tf.maximum(0, height - row - half)
    left, right = tf.maximum(0, column - half), tf.maximum(0, width - column - half)
    hole = tf.zeros([height - top - bottom, width - left - right], image.dtype)
    mask = tf.tile(tf.pad(hole, [[top, bottom], [left, right]], constant_values=1)[..., None], [1, 1, 3])
    return tf.where(mask == 0, tf.ones_like(image) * _FILL, image)


def _projective(image: tf.Tensor, matrix: list[tf.Tensor | float]) -> tf.Tensor:
    """Works like `image.transform` of tensorflow_addons. A fourth channel marks the pixels inside the image."""
    shape = tf.shape(image)
    four = tf.concat([image, tf.ones([shape[0], shape[1], 1], image.dtype)], 2)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=four[None],
        transforms=tf.stack([tf.cast(value, tf.float32) for value in [*matrix, 0.0, 0.0]])[None],
        output_shape=shape[:2],
        fill_value=tf.constant(0.0),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]
    return tf.where(moved[..., 3:] == 0, tf.ones_like(moved) * _FILL, moved)[..., :3]


def _rotate(image: tf.Tensor, level: float, sign: tf.Tensor | float) -> tf.Tensor:
    radians = tf.cast(level * 30.0, tf.float32) * sign * (math.pi / 180.0)
    cos, sin = tf.cos(radians[None])[0], tf.sin(radians[None])[0]
    right, bottom = (tf.cast(tf.shape(image)[axis] - 1, tf.float32) for axis in (1, 0))
    x_offset = (right - (cos * right - sin * bottom)) / 2.0
    y_offset = (bottom - (sin * right + cos * bottom)) / 2.0
    return _projective(image, [cos, -sin, x_offset, sin, cos, y_offset])


OPERATIONS: dict[str, Callable[[tf.Tensor, float, tf.Tensor | float], tf.Tensor]] = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": lambda image, _level, _sign: 255 - image,
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": lambda image, level, _sign: _blend(tf.zeros_like(image), image, level * 1.8 + 0.1),
    "Sharpness": _sharpness,
    "ShearX": lambda image, level, sign: _projective(image, [1.0, level * 0.3 * sign, 0.0, 0.0, 1.0, 0.0]),
    "ShearY": lambda image, level, sign: _projective(image, [1.0, 0.0, 0.0, level * 0.3 * sign, 1.0, 0.0]),
    "TranslateX": lambda image, level, sign: _projective(image, [1.0, 0.0, level * 100.0 * sign, 0.0, 1.0, 0.0]),
    "TranslateY": lambda image, level, sign: _projective(image, [1.0, 0.0, 0.0, 0.0, 1.0, level * 100.0 * sign]),
    "Cutout": _cutout,
    "SolarizeAdd": _solarize_add,
}
