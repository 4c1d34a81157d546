"""The preprocessing families: how an image's bytes become the numbers a network was trained on.

This module imports no TensorFlow: the training step and `predict` read the mean and the deviation from here.

Images travel from the host as uint8 and are normalised on the device. Resizing yields floats, so evaluation images are
clipped to 0..255 and rounded: an error of at most half a grey level (0.004 of V2's range of -1..1) against the official
float path, and bicubic overshoot outside 0..255 is lost.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

_Channels = tuple[float, float, float]

MAX_PIXELS = 89_478_485
"""Images with more are refused. Source: Pillow's MAX_IMAGE_PIXELS, a quarter of a gigabyte of RGB."""

_EVERY_SIZE = 1 << 30


@dataclasses.dataclass(frozen=True)
class PreprocessingFamily:
    """One way from an encoded image to the network's input.

    Attributes:
      name: the key in `FAMILIES`.
      mean: per channel, on the 0..255 scale; the network sees `(pixel - mean) / std`.
      std: per channel, on the 0..255 scale.
      interpolation: "bilinear" is TensorFlow 2's (half-pixel centres, no antialiasing); "bicubic" is TensorFlow 1's
        `resize_bicubic` (corner-anchored).
      crop_area: least and greatest share of the image that a training crop covers; None squashes the whole image.
      crop_aspect: least and greatest width / height of a training crop.
      crop_attempts: draws before a training crop falls back to the whole image.
      min_object_covered: least share of the whole image that a crop must cover, tested after the draw.
      whole_image_becomes_centre: whether a training "crop" of the whole image is replaced by the evaluation crop.
      eval_crop_below: evaluation takes the central square of side `size / (size + 32)` of the shorter side when the
        image size is below this many pixels, and squashes the whole image otherwise.
      eval_crop_rounding: 1 rounds the offset of that square up, 0 down.
    """

    name: str
    mean: _Channels
    std: _Channels
    interpolation: Literal["bilinear", "bicubic"]
    crop_area: tuple[float, float] | None
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    crop_attempts: int = 100
    min_object_covered: float = 0.0
    whole_image_becomes_centre: bool = False
    eval_crop_below: int = 0
    eval_crop_rounding: int = 0

    def crops_in_evaluation(self, image_size: int, eval_crop: str = "") -> bool:
        """Whether evaluation at `image_size` pixels takes the central square (True) or the whole image (False).

        An `eval_crop` of "centre" or "whole" takes the place of the family's rule.
        """
        return eval_crop == "centre" or (not eval_crop and image_size < self.eval_crop_below)


_ROWS = (
    # Source: google/automl efficientnetv2/preprocessing.py, preprocess_for_train and preprocess_for_eval. The aspect
    # range is the default of tf.image.sample_distorted_bounding_box, 0.75..1.33 (4/3 in the paper's words).
    PreprocessingFamily(
        name="v2",
        mean=(128.0, 128.0, 128.0),
        std=(128.0, 128.0, 128.0),
        interpolation="bilinear",
        crop_area=(0.05, 1.0),
        crop_aspect=(0.75, 1.33),
        eval_crop_below=320,
    ),
    # Source: google/automl efficientnetv2/preprocess_legacy.py (B0-B3 and V1). min_object_covered 0.1 of a box that is
    # the whole image makes 0.1, not 0.08, the least area in effect.
    PreprocessingFamily(
        name="legacy",
        mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
        std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
        interpolation="bicubic",
        crop_area=(0.08, 1.0),
        crop_attempts=10,
        min_object_covered=0.1,
        whole_image_becomes_centre=True,
        eval_crop_below=_EVERY_SIZE,
        eval_crop_rounding=1,
    ),
    # Source: google/automl efficientnetv2/preprocessing.py, preprocess_for_finetune: the whole image, squashed.
    PreprocessingFamily(
        name="finetune",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        interpolation="bilinear",
        crop_area=None,
    ),
)

FAMILIES: Mapping[str, PreprocessingFamily] = MappingProxyType({row.name: row for row in _ROWS})


def preprocessing_family(name: str) -> PreprocessingFamily:
    """Returns the family called `name`.

    Raises:
      ValueError: there is no such family; the message lists the allowed names.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown preprocessing {name!r}; allowed: {', '.join(FAMILIES)}")
    return FAMILIES[name]
