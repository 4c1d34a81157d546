"""Operations as one compiled function."""

import numpy as np
import pytest

from effnetv2_jax.data.augment.gallery import apply_op
from effnetv2_jax.data.augment.kernels import Draws
from effnetv2_jax.data.augment.operation_sequence import operation_sequence
from effnetv2_jax.data.augment.operations import OPERATION_NAMES, RANDAUGMENT_SCALES
from effnetv2_jax.data.cpu_tensorflow import tf

TEST_IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("magnitude", [0.7, 7.3, 10.0, 25.0])
def test_compiled_operations_give_the_bits_of_uncompiled_ones(magnitude):
    image = tf.constant(np.random.default_rng(5).integers(0, 256, (75, 56, 3), dtype=np.uint8))
    compiled = operation_sequence(tuple((name, magnitude) for name in OPERATION_NAMES), "official", RANDAUGMENT_SCALES)
    for index, name in enumerate(OPERATION_NAMES):
        for negate in (False, True):
            draws = Draws(tf.constant([negate]), tf.constant([[0.3, 0.8]]))
            expected = apply_op(image, name, magnitude, negate, centre=(0.3, 0.8))
            np.testing.assert_array_equal(compiled(image, tf.constant([index]), draws), expected, err_msg=name)


def test_operations_are_applied_one_after_another():
    compiled = operation_sequence(
        (("Invert", 0.0), ("TranslateX", 1.0), ("Color", 5.0)), "official", RANDAUGMENT_SCALES
    )
    draws = Draws(tf.constant([False, True, False, False]), tf.zeros([4, 2]))
    inverted = apply_op(TEST_IMAGE, "Invert", 0.0)
    expected = apply_op(apply_op(inverted, "TranslateX", 1.0, negate=True), "Color", 5.0)
    np.testing.assert_array_equal(compiled(tf.constant(TEST_IMAGE), tf.constant([0, 1, 3, 2]), draws), expected)
