"""From an entry's bytes to the image of a batch, as a configuration says."""

import dataclasses
import functools
from collections.abc import Callable

from effnetv2_jax.data import preprocess
from effnetv2_jax.data.augment.autoaugment import autoaugment
from effnetv2_jax.data.augment.operations import AUTOAUGMENT_SCALES, RANDAUGMENT_SCALES, Scales
from effnetv2_jax.data.augment.randaugment import randaugment
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.families import preprocessing_family

_Seeded = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Transform:
    """Two steps: `decode` (scalar string, seed) → uint8 `[h, w, 3]` may fail; `finish` (that, seed) → uint8
    `[image_size, image_size, 3]` may not.
    """

    decode: _Seeded
    finish: _Seeded


def training_transform(config: DataConfig, *, image_size: int, magnitude: float) -> Transform:
    """A random crop, resized, perhaps mirrored, augmented.

    Raises:
      ValueError: an unknown family or set of operations.
    """
    family = preprocessing_family(config.preprocessing)
    augment = _augmentation(config, image_size, magnitude)

    def finish(crop: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        resized = preprocess.resize(crop, image_size, family)
        # The official code drops the fraction before it augments, and keeps it otherwise; rounding is nearest to that.
        image = preprocess.rounded(resized) if augment is None else preprocess.truncated(resized)
        if config.flip:
            image = preprocess.flipped(image, seed)
        if augment is not None:
            image = augment(image, preprocess.seed_for(seed, preprocess.AUGMENTATION))
        if config.cutout:
            image = preprocess.noise_cutout(image, preprocess.seed_for(seed, preprocess.CUTOUT))
        return image

    decode = functools.partial(
        preprocess.training_crop,
        family=family,
        image_size=image_size,
        min_crop_area=config.min_crop_area,
        scaled=config.scaled_decoding,
    )
    return Transform(decode, finish)


def evaluation_transform(config: DataConfig, *, image_size: int) -> Transform:
    """The central square or the whole image, resized.

    Raises:
      ValueError: an unknown family.
    """
    family = preprocessing_family(config.preprocessing)
    crop = family.crops_in_evaluation(image_size, config.eval_crop)

    def finish(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        del seed
        return preprocess.rounded(preprocess.evaluation_image(image, family=family, image_size=image_size, crop=crop))

    # The whole image is decoded even if only its centre is used, so that no damage goes unnoticed.
    return Transform(lambda data, seed: preprocess.decode(data), finish)


def operation_scales(config: DataConfig, image_size: int) -> Scales:
    """Returns the pixels that translations and cutouts of a configuration's augmentation count in."""
    scales = AUTOAUGMENT_SCALES if config.augmentation == "autoaugment" else RANDAUGMENT_SCALES
    return scales.relative_to(image_size) if config.size_relative else scales


def _augmentation(config: DataConfig, image_size: int, magnitude: float) -> _Seeded | None:
    if config.augmentation == "none":
        return None
    scales = operation_scales(config, image_size)
    if config.augmentation == "autoaugment":
        return autoaugment(operations=config.operations, scales=scales)
    return randaugment(magnitude, layers=config.layers, operations=config.operations, scales=scales)
