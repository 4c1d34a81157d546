"""The augmentation that a configuration names."""

from collections.abc import Callable

from effnetv2_jax.data.augment.autoaugment import autoaugment
from effnetv2_jax.data.augment.operations import AUTOAUGMENT_SCALES, RANDAUGMENT_SCALES, Scales
from effnetv2_jax.data.augment.randaugment import randaugment
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf


def configured_augmentation(
    config: DataConfig, image_size: int, magnitude: float
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None:
    """Returns the function `(image, seed) → image` that augments an image, or None if the configuration has none.

    The image is uint8 `[image_size, image_size, 3]`, the seed a stateless int64 `[2]`.

    Args:
      config: the configuration, with a valid `augmentation`.
      image_size: height and width in pixels.
      magnitude: magnitude of RandAugment; AutoAugment has its own.

    Raises:
      ValueError: if the set of operations is unknown.
    """
    if config.augmentation == "none":
        return None
    scales = operation_scales(config, image_size)
    if config.augmentation == "autoaugment":
        return autoaugment(operations=config.operations, scales=scales)
    return randaugment(magnitude, layers=config.layers, operations=config.operations, scales=scales)


def operation_scales(config: DataConfig, image_size: int) -> Scales:
    """Returns the scales of translations and cutouts that a configuration sets for images of `image_size` pixels."""
    scales = AUTOAUGMENT_SCALES if config.augmentation == "autoaugment" else RANDAUGMENT_SCALES
    return scales.relative_to(image_size) if config.size_relative else scales
