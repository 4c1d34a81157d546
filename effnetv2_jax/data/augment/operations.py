"""The sixteen operations of RandAugment and AutoAugment as one table.

Source of the operations and their arguments: google/automl efficientnetv2/autoaugment.py, RandAugment (arXiv
1909.13719). The "official" set keeps that code's quirks; the "corrected" set differs in three rows.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from effnetv2_jax.data.augment import geometry, kernels
from effnetv2_jax.data.augment.kernels import Kernel

_REFERENCE_SIZE = 224  # pixels; the ImageNet size that RandAugment's pixel constants were chosen for


class Scales(NamedTuple):
    """What magnitude 10 means, in pixels, for the operations that are measured in pixels.

    Attributes:
      translate: distance of a translation.
      cutout: half the side of a cutout.
    """

    translate: float
    cutout: float

    def relative_to(self, image_size: int) -> "Scales":
        """Returns the scales that cover the same share of `image_size` pixels as these cover of 224 pixels."""
        return Scales(*(scale * image_size / _REFERENCE_SIZE for scale in self))


RANDAUGMENT_SCALES = Scales(translate=100.0, cutout=40.0)
AUTOAUGMENT_SCALES = Scales(translate=250.0, cutout=100.0)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One row of the table: `kernel(image, argument(level, scales), draws)` applies it, with level = magnitude / 10.

    Attributes:
      kernel: the pixel operation.
      argument: `(level, scales)` → the kernel's argument.
    """

    kernel: Kernel
    argument: Callable[[float, Scales], float]


def _unused(_level: float, _scales: Scales) -> float:
    return 0.0


def _enhance(level: float, _scales: Scales) -> float:
    return level * 1.8 + 0.1


def _shear(level: float, _scales: Scales) -> float:
    return level * 0.3


def _translate(level: float, scales: Scales) -> float:
    return level * scales.translate


_OFFICIAL: dict[str, Operation] = {
    "AutoContrast": Operation(kernels.auto_contrast, _unused),
    "Equalize": Operation(kernels.equalize, _unused),
    "Invert": Operation(kernels.invert, _unused),
    "Rotate": Operation(kernels.geometric(geometry.rotation), lambda level, _: level * 30.0),
    # The shift is an unsigned byte: below 0 it wraps, and TensorFlow takes anything above 7 for 7.
    "Posterize": Operation(kernels.posterize, lambda level, _: min((8 - int(level * 4)) % 256, 7)),
    # The threshold is an unsigned byte too.
    "Solarize": Operation(kernels.solarize, lambda level, _: int(level * 256) % 256),
    "Color": Operation(kernels.color, _enhance),
    "Contrast": Operation(kernels.contrast_with_pixel_count, _enhance),
    "Brightness": Operation(kernels.brightness, _enhance),
    "Sharpness": Operation(kernels.sharpness, _enhance),
    "ShearX": Operation(kernels.geometric(geometry.shear_x), _shear),
    "ShearY": Operation(kernels.geometric(geometry.shear_y), _shear),
    "TranslateX": Operation(kernels.geometric(geometry.translation_x), _translate),
    "TranslateY": Operation(kernels.geometric(geometry.translation_y), _translate),
    "Cutout": Operation(kernels.cutout, lambda level, scales: int(level * scales.cutout)),
    "SolarizeAdd": Operation(kernels.solarize_add, lambda level, _: int(level * 110)),
}

# Deviation: "corrected" changes three rows. From level 2.25 on, Posterize keeps all bits instead of one. From level 1
# on, Solarize inverts nothing instead of all values from a wrapped threshold on. Contrast blends with the mean grey.
OPERATION_SETS: Mapping[str, Mapping[str, Operation]] = MappingProxyType(
    {
        "official": MappingProxyType(_OFFICIAL),
        "corrected": MappingProxyType(
            _OFFICIAL
            | {
                "Posterize": Operation(kernels.posterize, lambda level, _: min(max(8 - int(level * 4), 0), 7)),
                "Solarize": Operation(kernels.solarize, lambda level, _: int(level * 256)),
                "Contrast": Operation(kernels.contrast_with_mean, _enhance),
            }
        ),
    }
)

OPERATION_NAMES = tuple(_OFFICIAL)


def operation_set(name: str) -> Mapping[str, Operation]:
    """Returns the operations of the set called `name`, by their names.

    Raises:
      ValueError: if there is no such set; the message lists the allowed names.
    """
    if name not in OPERATION_SETS:
        raise ValueError(f"unknown operations {name!r}; allowed: {', '.join(OPERATION_SETS)}")
    return OPERATION_SETS[name]
