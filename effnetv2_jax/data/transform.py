"""The transform from the bytes of an entry to an image of a batch, as configured."""

import dataclasses
import functools
from collections.abc import Callable

from effnetv2_jax.data.augment.augmentation import configured_augmentation
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.images import decoding, preprocess
from effnetv2_jax.data.images.families import preprocessing_family

_Seeded = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A transform in two steps. Only the first may fail.

    Attributes:
      decode: (scalar string, seed) → uint8 `[h, w, 3]`; fails for a broken image.
      finish: (decoded image, seed) → uint8 `[image_size, image_size, 3]`; never fails.
    """

    decode: _Seeded
    finish: _Seeded


def training_transform(config: DataConfig, *, image_size: int, magnitude: float) -> Transform:
    """Returns the transform of training: a random crop, resized, flipped and augmented as configured.

    Raises:
      ValueError: if the family or the set of operations is unknown.
    """
    family = preprocessing_family(config.preprocessing)
    augment = configured_augmentation(config, image_size, magnitude)

    def finish(crop: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        resized = preprocess.resize(crop, image_size, family)
        # The official code drops the fraction before it augments. Without augmentation it keeps the floats, to which
        # the rounded values are the nearest.
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
    """Returns the transform of evaluation: the central square or the whole image, resized.

    Raises:
      ValueError: if the family is unknown.
    """
    family = preprocessing_family(config.preprocessing)
    crop = family.crops_in_evaluation(image_size, config.eval_crop)

    def decode(data: tf.Tensor, _seed: tf.Tensor) -> tf.Tensor:
        return decoding.decode(data)  # decodes the whole image even if only its centre is used, to notice any damage

    def finish(image: tf.Tensor, _seed: tf.Tensor) -> tf.Tensor:
        return preprocess.rounded(preprocess.evaluation_image(image, family=family, image_size=image_size, crop=crop))

    return Transform(decode, finish)
