"""The images whose activations give the ranges of 8-bit integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from effnetv2_jax.export.served_network import ServedNetwork
from effnetv2_jax.predict.images import read_image, resized_image

MOST_IMAGES = 500
"""The largest number of calibration images; more change the ranges little, and take memory."""


def calibration_images(network: ServedNetwork, paths: Sequence[Path]) -> np.ndarray:
    """Reads images as evaluation does, to uint8 pixels `[M, S, S, 3]`. Of more than `MOST_IMAGES`, it takes every k-th.

    Raises:
      ValueError: if an image is damaged.
      OSError: if one cannot be read.
    """
    provenance, family = network.provenance, network.family
    chosen = paths[:: -(-len(paths) // MOST_IMAGES)]
    images = (resized_image(read_image(path), family, provenance.eval_size, provenance.eval_crop) for path in chosen)
    return np.stack([np.rint(np.clip(image, 0, 255)).astype(np.uint8) for image in images])
