"""Turns an image file into the network's input, as in evaluation but without TensorFlow."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from effnetv2_jax.data.images.families import MAX_IMAGE_BYTES, MAX_PIXELS, PreprocessingFamily
from effnetv2_jax.data.images.image_header import has_too_many_scans, is_costly_bitmap, why_not_decoded
from effnetv2_jax.regular_file import checked_size

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
"""The formats that are read. Pillow has others, of which EPS would start Ghostscript, whatever the file is called."""

_TABLE = 1024  # TensorFlow 1 rounds positions between two pixels to this many steps, to look up cubic weights


def read_image(path: Path) -> np.ndarray:
    """Decodes an image file to uint8 RGB `[H, W, 3]`.

    Deviation: Pillow decodes JPEGs with libjpeg's accurate inverse DCT, TensorFlow with the fast one. The pixels of a
    photograph differ by one grey level on average.

    Raises:
      ValueError: if the file is damaged, is not an image of one of `FORMATS`, or has more than `MAX_PIXELS` or
        `MAX_IMAGE_BYTES`.
      OSError: if the file does not exist or cannot be read.
    """
    checked_size(path, MAX_IMAGE_BYTES)
    data = path.read_bytes()
    if has_too_many_scans(data) or is_costly_bitmap(data):
        raise ValueError(f"{path} {why_not_decoded(data)}")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            pixels = np.asarray(image.convert("RGB")) if width * height <= MAX_PIXELS else None
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image ({', '.join(FORMATS)})") from error
    except Exception as error:  # decoders raise all kinds of exceptions for damaged bytes
        raise ValueError(f"{path} is damaged: {error}") from error
    if pixels is None:
        raise ValueError(f"{path} has {width} × {height} pixels, and the limit is {MAX_PIXELS:,}")
    return pixels


def evaluation_image(image: np.ndarray, family: PreprocessingFamily, size: int, eval_crop: str = "") -> np.ndarray:
    """Crops, resizes and normalises an image: uint8 `[H, W, 3]` → float32 `[size, size, 3]`.

    As in the official evaluation, the resized image keeps its fraction. The input pipeline rounds it to uint8 instead.

    An `eval_crop` of "centre" or "whole" overrides the family's rule.
    """
    return family.normalised(resized_image(image, family, size, eval_crop))


def resized_image(image: np.ndarray, family: PreprocessingFamily, size: int, eval_crop: str = "") -> np.ndarray:
    """Crops and resizes an image as `evaluation_image` does, without normalising it.

    Returns:
      float32 `[size, size, 3]` in 0..255, except where bicubic interpolation overshoots.
    """
    if family.crops_in_evaluation(size, eval_crop):
        image = _central_square(image, family, size)
    return _resize(image.astype(np.float32), family.interpolation, size)


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
