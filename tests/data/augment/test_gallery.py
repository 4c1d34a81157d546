"""Single operations on one image, and the gallery of all operations."""

import numpy as np
import pytest

from effnetv2_jax.data.augment.gallery import apply_op, operation_gallery
from effnetv2_jax.data.augment.operations import OPERATION_NAMES
from effnetv2_jax.data.cpu_tensorflow import tf

TEST_IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TEST_IMAGE, "Sharpen", 1.0), "'Sharpen'.* AutoContrast, "),
        ((TEST_IMAGE, "Invert", -1.0), "magnitude -1.0"),
        ((TEST_IMAGE, "Invert", float("nan")), "magnitude nan"),
        ((TEST_IMAGE.astype(np.float32), "Invert", 1.0), "uint8"),
        ((TEST_IMAGE[..., :1], "Invert", 1.0), r"\[H, W, 3\]"),
        ((TEST_IMAGE[None], "Invert", 1.0), r"\[H, W, 3\]"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        apply_op(*arguments)


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match="'better'; allowed: official, corrected"):
        apply_op(TEST_IMAGE, "Invert", 1.0, operations="better")


def test_a_tensor_gives_a_tensor_and_an_array_an_array():
    assert isinstance(apply_op(TEST_IMAGE, "Invert", 1.0), np.ndarray)
    assert isinstance(apply_op(tf.constant(TEST_IMAGE), "Invert", 1.0), tf.Tensor)


def test_the_gallery_shows_every_operation():
    gallery = operation_gallery(TEST_IMAGE, 10.0)
    assert tuple(gallery) == OPERATION_NAMES
    np.testing.assert_array_equal(gallery["Invert"], 255 - TEST_IMAGE)
