"""A picture's file to the network's input, as in evaluation, without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from effnetv2_jax.data.families import MAX_PIXELS, PreprocessingFamily

_MAX_BYTES = 1 << 28
_TABLE = 1024  # TensorFlow 1 rounds cubic weights to this many steps between two pixels


def read_image(path: Path) -> np.ndarray:
    """Decodes a picture to uint8 RGB `[H, W, 3]`.

    Deviation: TensorFlow decodes JPEG with libjpeg's fast inverse transform and Pillow with its accurate one, so that
    the pixels of a photo differ by one grey level on average.

    Raises:
      ValueError: for a file that is damaged, no picture, or larger than `MAX_PIXELS`.
      OSError: if it is not there or cannot be read.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes; pictures may have {_MAX_BYTES:,}")
    try:
        with path.open("rb") as file, Image.open(file) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ValueError(f"it has {width}×{height} pixels, and pictures may have {MAX_PIXELS:,}")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is damaged or no picture: {error}") from error


def evaluation_image(image: np.ndarray, family: PreprocessingFamily, size: int, eval_crop: str = "") -> np.ndarray:
    """Crops, resizes and normalises as a family's evaluation: uint8 `[H, W, 3]` → float32 `[size, size, 3]`.

    An `eval_crop` of "centre" or "whole" takes the place of the family's rule.
    """
    if family.crops_in_evaluation(size, eval_crop):
        image = _central_square(image, family, size)
    resized = _resize(image.astype(np.float32), family.interpolation, size)
    mean, std = (np.asarray(values, np.float32).reshape(1, 1, 3) for values in (family.mean, family.std))
    return (resized - mean) / std


def _central_square(image: np.ndarray, family: PreprocessingFamily, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    side = max(int(np.float32(size / (size + 32)) * np.float32(min(height, width))), 1)
    top, left = ((length - side + family.eval_crop_rounding) // 2 for length in (height, width))
    return image[top : top + side, left : left + side]


def _resize(image: np.ndarray, interpolation: str, size: int) -> np.ndarray:
    taps = {"bilinear": _linear_taps, "bicubic": _cubic_taps}[interpolation]
    for axis in (0, 1):
        indices, weights = taps(image.shape[axis], size)  # [taps, size]
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        image = sum(image.take(i, axis) * w.reshape(shape) for i, w in zip(indices, weights, strict=True))
    return image


def _linear_taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours and weights of TensorFlow 2's bilinear resize: half-pixel centres, no antialiasing."""
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(length / size) - np.float32(0.5)
    below = np.floor(place)
    share = place - below
    indices = np.stack([np.maximum(below, 0), np.minimum(np.ceil(place), length - 1)]).astype(int)
    return indices, np.stack([1 - share, share])


def _cubic_taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours and weights of TensorFlow 1's `resize_bicubic`: corner-anchored, cubic with a = −0.75."""
    place = np.arange(size, dtype=np.float32) * np.float32(length / size)
    below = np.floor(place)
    share = np.rint((place - below) * _TABLE) / _TABLE
    distances = np.stack([1 + share, share, 1 - share, 2 - share])
    a = -0.75
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    weights = np.where(distances <= 1, near, far).astype(np.float32)
    indices = np.clip(below + np.arange(-1, 3).reshape(4, 1), 0, length - 1).astype(int)
    return indices, weights
