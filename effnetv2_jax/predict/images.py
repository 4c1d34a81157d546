"""Turns an image file into the network's input, as in evaluation but without TensorFlow."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.data.families import MAX_PIXELS, PreprocessingFamily

_MAX_BYTES = 1 << 28
_TABLE = 1024  # TensorFlow 1 rounds positions between two pixels to this many steps, to look up cubic weights


def read_image(path: Path) -> np.ndarray:
    """Decodes an image file to uint8 RGB `[H, W, 3]`.

    Deviation: Pillow decodes JPEGs with libjpeg's accurate inverse DCT, TensorFlow with the fast one. The pixels of a
    photograph differ by one grey level on average.

    Raises:
      ValueError: if the file is damaged, is not an image, or has more than `MAX_PIXELS`.
      OSError: if the file does not exist or cannot be read.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path} has {byte_size(path.stat().st_size)}, and the limit is {byte_size(_MAX_BYTES)}")
    with path.open("rb") as file:
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
                width, height = image.size
                pixels = np.asarray(image.convert("RGB")) if width * height <= MAX_PIXELS else None
        except UnidentifiedImageError as error:
            raise ValueError(f"{path} is not an image") from error
        except Exception as error:  # the readers of Pillow's many formats fail on damaged files in many ways
            raise ValueError(f"{path} is damaged: {error}") from error
    if pixels is None:
        raise ValueError(f"{path} has {width} × {height} pixels, and the limit is {MAX_PIXELS:,}")
    return pixels


def evaluation_image(image: np.ndarray, family: PreprocessingFamily, size: int, eval_crop: str = "") -> np.ndarray:
    """Crops, resizes and normalises an image: uint8 `[H, W, 3]` → float32 `[size, size, 3]`.

    As in the official evaluation, the resized image keeps its fraction. The input pipeline rounds it to uint8 instead.

    An `eval_crop` of "centre" or "whole" overrides the family's rule.
    """
    if family.crops_in_evaluation(size, eval_crop):
        image = _central_square(image, family, size)
    resized = _resize(image.astype(np.float32), family.interpolation, size)
    mean, std = (np.asarray(values, np.float32).reshape(1, 1, 3) for values in (family.mean, family.std))
    return (resized - mean) / std


def _central_square(image: np.ndarray, family: PreprocessingFamily, size: int) -> np.ndarray:
    height, width = (np.float32(length) for length in image.shape[:2])
    top, left, side = (int(value) for value in family.central_square(height, width, size, np))
    return image[top : top + side, left : left + side]


def _resize(image: np.ndarray, interpolation: str, size: int) -> np.ndarray:
    taps = {"bilinear": _linear_taps, "bicubic": _cubic_taps}[interpolation]
    for axis in (0, 1):
        indices, weights = taps(image.shape[axis], size)  # [taps, size]
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        image = sum(image.take(i, axis) * w.reshape(shape) for i, w in zip(indices, weights, strict=True))
    return image


def _linear_taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices and weights `[taps, size]` of TensorFlow 2's bilinear resize (half-pixel, no antialiasing)."""
    position = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(length / size) - np.float32(0.5)
    below = np.floor(position)
    share = position - below
    indices = np.stack([np.maximum(below, 0), np.minimum(np.ceil(position), length - 1)]).astype(int)
    return indices, np.stack([1 - share, share])


def _cubic_taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices and weights `[taps, size]` of TensorFlow 1's `resize_bicubic` (corner-anchored, a = −0.75)."""
    position = np.arange(size, dtype=np.float32) * np.float32(length / size)
    below = np.floor(position)
    share = np.rint((position - below) * _TABLE) / _TABLE
    distances = np.stack([1 + share, share, 1 - share, 2 - share])
    a = -0.75
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    weights = np.where(distances <= 1, near, far).astype(np.float32)
    indices = np.clip(below + np.arange(-1, 3).reshape(4, 1), 0, length - 1).astype(int)
    return indices, weights
