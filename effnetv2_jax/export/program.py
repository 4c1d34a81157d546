"""An exported program, loaded and ready to run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Program:
    """An exported program in its runtime.

    Attributes:
      runtime: name and version of the runtime, such as `ONNX Runtime 1.32.0`.
      image_shape: `[S, S, 3]`, the shape of one image.
      image_dtype: dtype of the images: uint8 for pixels, float32 for normalised images.
      run: images `[N, S, S, 3]` → float32 logits `[N, classes]`.
    """

    runtime: str
    image_shape: tuple[int, ...]
    image_dtype: np.dtype
    run: Callable[[np.ndarray], np.ndarray]
