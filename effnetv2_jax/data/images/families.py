"""The preprocessing families: how an image becomes the numbers that a network was trained on.

This module imports no TensorFlow, because the training step and `predict` use it too.

The input pipeline sends images to the device as uint8, and they are normalised there. Resizing yields floats, so the
pipeline clips evaluation images to 0..255 and rounds them. The official code keeps the floats. The rounding costs at
most half a grey level (0.004 of V2's range of -1..1), and bicubic overshoot outside 0..255 is lost.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, Literal

import numpy as np

_Channels = tuple[float, float, float]

MAX_PIXELS = 89_478_485
"""Larger images are refused. Source: Pillow's MAX_IMAGE_PIXELS, a quarter of a gigabyte of RGB."""

MAX_IMAGE_BYTES = 256 << 20
"""Larger files of one image are refused. Uncompressed pixels of the largest image take as much."""

CENTRAL_BORDER = 32
"""Pixels that evaluation cuts off: of a shorter side of `image_size + 32` pixels, it keeps the central `image_size`.

Source: google/automl efficientnetv2/preprocessing.py, preprocess_for_eval, and preprocess_legacy.py,
_decode_and_center_crop.
"""

_EVERY_SIZE = 1 << 30


@dataclasses.dataclass(frozen=True)
class PreprocessingFamily:
    """One way to turn an encoded image into the network's input.

    Attributes:
      name: the key in `FAMILIES`.
      mean: mean of each channel on the 0..255 scale; the network's input is `(pixel - mean) / std`.
      std: standard deviation of each channel on the 0..255 scale.
      interpolation: "bilinear" is TensorFlow 2's (half-pixel centres, no antialiasing); "bicubic" is TensorFlow 1's
        `resize_bicubic` (corner-anchored).
      crop_area: least and greatest share of the image that a training crop covers. None takes the whole image and
        squashes it to a square.
      crop_aspect: least and greatest width / height of a training crop.
      crop_attempts: number of draws before a training crop falls back to the whole image.
      min_object_covered: least share of the whole image that a crop must cover, tested after the draw.
      whole_image_becomes_centre: whether a random crop that equals the whole image is replaced by the central square.
      eval_crop_below: evaluation takes the central square at image sizes below this, in pixels, and the whole image
        squashed to a square at all others.
      eval_crop_rounding: 1 rounds the offset of the central square up, 0 rounds it down.
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
        """Returns whether evaluation at `image_size` pixels takes the central square (True) or the whole image (False).

        An `eval_crop` of "centre" or "whole" overrides the family's rule.
        """
        return eval_crop == "centre" or (not eval_crop and image_size < self.eval_crop_below)

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """Returns pixels `[…, 3]` in 0..255 as the network's input, float32."""
        mean, std = (
            np.asarray(values, np.float32).reshape((1,) * (pixels.ndim - 1) + (3,)) for values in (self.mean, self.std)
        )
        normalised: np.ndarray = (pixels.astype(np.float32) - mean) / std
        return normalised

    @staticmethod
    def central_share(image_size: int) -> float:
        """Returns the side of the central square as a share of the image's shorter side."""
        return image_size / (image_size + CENTRAL_BORDER)

    def central_square(self, height: Any, width: Any, image_size: int, library: ModuleType) -> tuple[Any, Any, Any]:
        """Returns the central square of an image: its top, its left and its side, in whole pixels.

        Deviation: the side is at least one pixel. The official code fails for an image that is one pixel high, because
        its crop is empty.

        Args:
          height: height of the image in pixels, float32.
          width: width of the image in pixels, float32.
          image_size: height and width in pixels that the square will be resized to.
          library: the module that computes, `numpy` or `tensorflow`.

        Returns:
          float32 scalars of that library.
        """
        shorter = library.minimum(height, width)
        side = library.maximum(library.floor(self.central_share(image_size) * shorter), 1.0)
        top, left = (library.floor((length - side + self.eval_crop_rounding) / 2.0) for length in (height, width))
        return top, left, side


_ROWS = (
    # Source: google/automl efficientnetv2/preprocessing.py, preprocess_for_train and preprocess_for_eval. The aspect
    # range is the default of tf.image.sample_distorted_bounding_box, 0.75..1.33, where the paper writes 4/3.
    PreprocessingFamily(
        name="v2",
        mean=(128.0, 128.0, 128.0),
        std=(128.0, 128.0, 128.0),
        interpolation="bilinear",
        crop_area=(0.05, 1.0),
        crop_aspect=(0.75, 1.33),
        eval_crop_below=320,
    ),
    # Source: google/automl efficientnetv2/preprocess_legacy.py (B0-B3 and V1). The object to cover is the whole image,
    # so min_object_covered raises the least area from 0.08 to 0.1.
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
    # Source: tensorflow/tpu models/official/efficientnet, whose AdvProp weights take images in -1..1 (`advprop` of
    # eval_ckpt_main.py). Everything else is as in "legacy".
    PreprocessingFamily(
        name="advprop",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
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
      ValueError: if there is no such family; the message lists the allowed names.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown preprocessing {name!r}; allowed: {', '.join(FAMILIES)}")
    return FAMILIES[name]
