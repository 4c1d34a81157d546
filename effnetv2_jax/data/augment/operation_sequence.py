"""Compiles operations that are applied to an image one after another into one function."""

import functools
from collections.abc import Callable

from effnetv2_jax.data.augment.kernels import Draws
from effnetv2_jax.data.augment.operations import Scales, operation_set
from effnetv2_jax.data.cpu_tensorflow import tf


@functools.lru_cache(maxsize=16)
def operation_sequence(
    choices: tuple[tuple[str, float], ...], operations: str, scales: Scales
) -> Callable[[tf.Tensor, tf.Tensor, Draws], tf.Tensor]:
    """Compiles the function `(image, indices, draws) → image` that applies `choices[i]` for each `i` of `indices`.

    Only the chosen operations run. Compiling takes about a second, so the function is cached for later pipelines.

    Args:
      choices: pairs of an operation's name and its magnitude.
      operations: "official" or "corrected".
      scales: scales of translations and cutouts, in pixels.

    Returns:
      A function of a uint8 image `[H, W, 3]` of static shape, indices int32 `[n]`, and the draws of `n` applications,
      bool `[n]` and float32 `[n, 2]`. The index `len(choices)` leaves the image unchanged.

    Raises:
      ValueError: if there is no such set of operations.
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
        def applied(position: tf.Tensor, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            drawn = Draws(draws.negative[position], draws.centre[position])
            return position + 1, chosen(image, indices[position], drawn)

        return tf.while_loop(lambda position, _: position < tf.size(indices), applied, (tf.constant(0), image))[1]

    return tf.function(apply, jit_compile=True)
