"""RandAugment: one of sixteen operations, and another one after it, drawn for each image."""

import functools
import math
from collections.abc import Callable

import numpy as np

from effnetv2_jax.data.augment.operations import (
    OPERATION_NAMES,
    RANDAUGMENT_SCALES,
    Draws,
    Scales,
    operation_set,
)
from effnetv2_jax.data.cpu_tensorflow import tf

__all__ = ["OPERATION_NAMES", "apply_op", "operation_gallery", "operations_in_turn", "randaugment"]


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
      magnitude: RandAugment's, 10 for the nominal strength.
      negate: the opposite sign of a rotation, shear or translation; ignored by the other operations.
      operations: "official" or "corrected".
      centre: of a cutout, as shares of height and width; ignored by the other operations.
      scales: pixels of translations and cutouts.

    Returns:
      uint8 `[H, W, 3]`, a NumPy array if `image` is one.

    Raises:
      ValueError: an unknown operation or set, a negative magnitude, or an image of another type or shape.
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
    """Returns the image after each operation, uint8 `[H, W, 3]` by the operation's name, in the table's order.

    Raises:
      ValueError: as `apply_op`.
    """
    return {name: apply_op(image, name, magnitude, operations=operations, scales=scales) for name in OPERATION_NAMES}


@functools.lru_cache(maxsize=16)
def operations_in_turn(
    choices: tuple[tuple[str, float], ...], operations: str, scales: Scales
) -> Callable[[tf.Tensor, tf.Tensor, Draws], tf.Tensor]:
    """Compiles the function `(image, indices, draws) → image` that applies `choices[index]`, one index after another.

    Only the operations chosen run. Compiling takes a second, so the function is kept for the next pipeline that wants
    the same.

    Args:
      choices: pairs of an operation's name and its magnitude.
      operations: "official" or "corrected".
      scales: pixels of translations and cutouts.

    Returns:
      A function of a uint8 `[H, W, 3]` image of static shape, int32 `[n]` indices and the draws of `n` applications,
      bool `[n]` and float32 `[n, 2]`. The index `len(choices)` leaves the image as it is.
    """
    table = operation_set(operations)

    def chosen(image: tf.Tensor, index: tf.Tensor, draws: Draws) -> tf.Tensor:
        branches = [
            functools.partial(table[name].kernel, image, table[name].argument(magnitude / 10.0, scales), draws)
            for name, magnitude in choices
        ]
        return tf.switch_case(index, [*branches, lambda: image])

    @tf.autograph.experimental.do_not_convert
    def apply(image: tf.Tensor, indices: tf.Tensor, draws: Draws) -> tf.Tensor:
        def applied(turn: tf.Tensor, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return turn + 1, chosen(image, indices[turn], Draws(draws.negative[turn], draws.centre[turn]))

        return tf.while_loop(lambda turn, image: turn < tf.size(indices), applied, (tf.constant(0), image))[1]

    return tf.function(apply, jit_compile=True)


def randaugment(
    magnitude: float, *, layers: int = 2, operations: str = "official", scales: Scales = RANDAUGMENT_SCALES
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns RandAugment: `layers` times one of the sixteen operations, each as likely as another, always applied.

    Args:
      magnitude: strength of all operations.
      layers: how many operations follow each other.
      operations: "official" or "corrected".
      scales: pixels of translations and cutouts.

    Returns:
      `(image, seed) → image`, uint8 `[H, W, 3]`, with a stateless seed int64 `[2]`.
    """
    if layers == 0:
        return lambda image, seed: image
    in_turn = operations_in_turn(tuple((name, magnitude) for name in OPERATION_NAMES), operations, scales)

    def augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        draws = tf.random.stateless_uniform([layers, 4], seed, alg="philox")
        indices = tf.cast(draws[:, 0] * len(OPERATION_NAMES), tf.int32)
        return in_turn(image, indices, Draws(draws[:, 1] < 0.5, draws[:, 2:]))

    return augment
