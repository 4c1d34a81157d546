"""RandAugment: the operations that it draws."""

import collections

import numpy as np
import pytest

from effnetv2_jax.data.augment.gallery import apply_op
from effnetv2_jax.data.augment.operations import OPERATION_NAMES, Scales
from effnetv2_jax.data.augment.randaugment import randaugment
from effnetv2_jax.data.cpu_tensorflow import tf

TEST_IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def seed(index: int) -> tf.Tensor:
    return tf.constant([3, index], tf.int64)


@pytest.fixture(scope="module")
def augment():
    function = randaugment(10.0, scales=Scales(8.0, 6.0))
    return tf.function(lambda image, seed: function(image, seed), autograph=False)


def test_the_same_seed_gives_the_same_image_and_other_seeds_mostly_do_not(augment):
    images = [augment(TEST_IMAGE, seed(index)).numpy() for index in range(30)]
    again = [augment(TEST_IMAGE, seed(index)).numpy() for index in range(30)]
    np.testing.assert_array_equal(images, again)
    assert len({image.tobytes() for image in images}) > 25


def test_every_operation_is_drawn_equally_often():
    one_layer = randaugment(0.9, layers=1)  # translations of 9 pixels
    augment = tf.function(lambda seed: one_layer(tf.constant(TEST_IMAGE), seed), autograph=False)
    results = [augment(seed(index)).numpy().tobytes() for index in range(640)]
    known = {
        apply_op(TEST_IMAGE, name, 0.9, negate).tobytes(): name
        for name in OPERATION_NAMES
        if name != "Cutout"
        for negate in (False, True)
    }
    found = collections.Counter(known.get(result, "Cutout") for result in results)
    assert set(found) == set(OPERATION_NAMES)
    assert max(abs(count - 40) for count in found.values()) < 31  # 40 are expected; 31 is five standard deviations


def test_two_layers_apply_two_operations(augment):
    once = randaugment(10.0, layers=1, scales=Scales(8.0, 6.0))
    single = {once(tf.constant(TEST_IMAGE), seed(index)).numpy().tobytes() for index in range(40)}
    double = [augment(TEST_IMAGE, seed(index)).numpy().tobytes() for index in range(40)]
    assert sum(image in single for image in double) < 20  # some pairs equal one operation, such as Invert twice


def test_no_layers_leave_the_image_unchanged():
    np.testing.assert_array_equal(randaugment(10.0, layers=0)(tf.constant(TEST_IMAGE), seed(0)), TEST_IMAGE)
