"""AutoAugment's ImageNet policy v0: draws one of 25 pairs of operations and applies each with its own probability."""

from collections.abc import Callable

import numpy as np

from effnetv2_jax.data.augment.kernels import Draws
from effnetv2_jax.data.augment.operation_sequence import operation_sequence
from effnetv2_jax.data.augment.operations import AUTOAUGMENT_SCALES, Scales
from effnetv2_jax.data.cpu_tensorflow import tf

# Each row is a pair of triples (operation, probability, magnitude).
# Source: google/automl efficientnetv2/autoaugment.py, policy_v0 (AutoAugment, arXiv 1805.09501).
POLICY_V0 = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
    (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
    (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
    (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
    (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
    (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
    (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
    (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
    (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
    (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
    (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
    (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)

_WITHOUT_MAGNITUDE = ("AutoContrast", "Equalize", "Invert")


def autoaugment(
    *, operations: str = "official", scales: Scales = AUTOAUGMENT_SCALES
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns AutoAugment with policy v0.

    Args:
      operations: "official" or "corrected".
      scales: scales of translations and cutouts, in pixels.

    Returns:
      A function `(image, seed) → image` of uint8 `[H, W, 3]` and a stateless seed int64 `[2]`.

    Raises:
      ValueError: if there is no such set of operations.
    """
    pairs = [
        [(name, 0.0 if name in _WITHOUT_MAGNITUDE else float(magnitude)) for name, _, magnitude in pair]
        for pair in POLICY_V0
    ]
    choices = sorted({step for pair in pairs for step in pair})
    indices = np.array([[choices.index(step) for step in pair] for pair in pairs], np.int32)
    probabilities = np.array([[probability for _, probability, _ in pair] for pair in POLICY_V0], np.float32)
    apply = operation_sequence(tuple(choices), operations, scales)
    identity = len(choices)

    def augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        draws = tf.random.stateless_uniform([1 + 2 * 4], seed, alg="philox")
        row, steps = tf.cast(draws[0] * len(POLICY_V0), tf.int32), tf.reshape(draws[1:], [2, 4])
        applied = steps[:, 0] < tf.gather(probabilities, row)
        sequence = tf.where(applied, tf.gather(indices, row), identity)
        return apply(image, sequence, Draws(steps[:, 1] < 0.5, steps[:, 2:]))

    return augment
