"""Applies single operations to an image, for pictures and tests. Training uses `operation_sequence`."""

import math

import numpy as np

from effnetv2_jax.data.augment.kernels import Draws
from effnetv2_jax.data.augment.operations import OPERATION_NAMES, RANDAUGMENT_SCALES, Scales, operation_set
from effnetv2_jax.data.cpu_tensorflow import tf


def apply_op(
    image: np.ndarray | tf.Tensor,
    name: str,
    magnitude: float,
    negate: bool = False,
    *,
    operations: str = "official",
    centre: tuple[float, float] = (0.5, 0.5),
    scales: Scales = RANDAUGMENT_SCALES,
) -> np.ndarray | tf.Tensor:
    """Applies one operation to one image.

    Args:
      image: uint8 `[H, W, 3]`, a NumPy array or a tensor.
      name: one of `OPERATION_NAMES`.
      magnitude: strength of the operation; 10 is RandAugment's nominal strength.
      negate: whether to negate the argument of a rotation, shear or translation. Other operations ignore it.
      operations: "official" or "corrected".
      centre: centre of a cutout as shares of height and width. Other operations ignore it.
      scales: scales of translations and cutouts, in pixels.

    Returns:
      uint8 `[H, W, 3]`, a NumPy array if `image` is one, else a tensor.

    Raises:
      ValueError: if the operation or the set is unknown, the magnitude is negative or not finite, or the image has
        another type or shape.
    """
    table = operation_set(operations)
    if name not in table:
        raise ValueError(f"unknown operation {name!r}; allowed: {', '.join(table)}")
    if not 0 <= magnitude < math.inf:
        raise ValueError(f"magnitude {magnitude} must be finite and not negative")
    pixels = tf.convert_to_tensor(image)
    if (
        pixels.dtype != tf.uint8
        or pixels.shape.rank != 3
        or pixels.shape[2] != 3
        or not pixels.shape.is_fully_defined()
    ):
        raise ValueError(f"image must be uint8 [H, W, 3], but is {pixels.dtype.name} {pixels.shape}")
    operation = table[name]
    draws = Draws(tf.constant(negate), tf.constant(centre, tf.float32))
    result = operation.kernel(pixels, operation.argument(magnitude / 10.0, scales), draws)
    return result.numpy() if isinstance(image, np.ndarray) else result


def operation_gallery(
    image: np.ndarray, magnitude: float, *, operations: str = "official", scales: Scales = RANDAUGMENT_SCALES
) -> dict[str, np.ndarray]:
    """Returns operation name → the image after that operation, uint8 `[H, W, 3]`, in the order of the table.

    Raises:
      ValueError: as `apply_op` does.
    """
    return {name: apply_op(image, name, magnitude, operations=operations, scales=scales) for name in OPERATION_NAMES}
