"""RandAugment: draws a few of sixteen operations for each image and applies them one after another."""

from collections.abc import Callable

from effnetv2_jax.data.augment.kernels import Draws
from effnetv2_jax.data.augment.operation_sequence import operation_sequence
from effnetv2_jax.data.augment.operations import OPERATION_NAMES, RANDAUGMENT_SCALES, Scales
from effnetv2_jax.data.cpu_tensorflow import tf


def randaugment(
    magnitude: float, *, layers: int = 2, operations: str = "official", scales: Scales = RANDAUGMENT_SCALES
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns RandAugment, which draws and applies an operation `layers` times; all operations are equally likely.

    Args:
      magnitude: strength of all operations.
      layers: number of operations that are applied one after another.
      operations: "official" or "corrected".
      scales: scales of translations and cutouts, in pixels.

    Returns:
      A function `(image, seed) → image` of uint8 `[H, W, 3]` and a stateless seed int64 `[2]`.

    Raises:
      ValueError: if there is no such set of operations.
    """
    if layers == 0:
        return lambda image, _: image
    apply = operation_sequence(tuple((name, magnitude) for name in OPERATION_NAMES), operations, scales)

    def augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        draws = tf.random.stateless_uniform([layers, 4], seed, alg="philox")
        indices = tf.cast(draws[:, 0] * len(OPERATION_NAMES), tf.int32)
        return apply(image, indices, Draws(draws[:, 1] < 0.5, draws[:, 2:]))

    return augment
