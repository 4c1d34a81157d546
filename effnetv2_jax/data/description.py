"""What the input pipeline does to training images, in a sentence."""

from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.images.families import preprocessing_family


def describe_training_images(config: DataConfig) -> str:
    """Returns one line that says how training images are cropped, mirrored, augmented and covered.

    Raises:
      ValueError: if the preprocessing family is unknown.
    """
    return f"training images: {', '.join((_crop(config), _flip(config), _augmentation(config), _cutout(config)))}"


def _crop(config: DataConfig) -> str:
    family = preprocessing_family(config.preprocessing)
    area = (config.min_crop_area, 1.0) if config.min_crop_area else family.crop_area
    if area is None:
        return "whole images squashed to a square"
    return f"random crops of {100 * max(area[0], family.min_object_covered):.3g}–{100 * area[1]:.3g} % of each image"


def _flip(config: DataConfig) -> str:
    if config.flip:
        return "half of them mirrored (--config.data.flip=False for letters, digits and the like)"
    return "none mirrored"


def _augmentation(config: DataConfig) -> str:
    if config.augmentation == "autoaugment":
        return "AutoAugment"
    if config.augmentation == "randaugment" and config.layers:
        return f"RandAugment with {config.layers} operation{'s' if config.layers > 1 else ''}"
    return "no RandAugment"


def _cutout(config: DataConfig) -> str:
    return "a square of noise on each" if config.cutout else "no square of noise"
