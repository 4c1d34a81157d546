"""AutoAugment's policy v0 and its probabilities."""

import collections

import numpy as np
import pytest

from effnetv2_jax.data.augment.autoaugment import POLICY_V0, autoaugment
from effnetv2_jax.data.augment.kernels import Draws
from effnetv2_jax.data.augment.operations import AUTOAUGMENT_SCALES, OPERATION_NAMES, operation_set
from effnetv2_jax.data.cpu_tensorflow import tf

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)


def seed(index: int) -> tf.Tensor:
    return tf.constant([9, index], tf.int64)


def outcomes(pair) -> dict[bytes, float]:
    """Returns each image that a pair of steps can make of IMAGE, with its probability."""
    results = {IMAGE.tobytes(): 1.0}
    for name, probability, magnitude in pair:
        operation = operation_set("official")[name]
        after: dict[bytes, float] = {}
        for content, likelihood in results.items():
            before = tf.constant(np.frombuffer(content, np.uint8).reshape(IMAGE.shape))
            for negate in (False, True):
                draws = Draws(tf.constant(negate), tf.constant([0.5, 0.5]))
                moved = operation.kernel(before, operation.argument(magnitude / 10, AUTOAUGMENT_SCALES), draws)
                key = moved.numpy().tobytes()
                after[key] = after.get(key, 0.0) + likelihood * probability / 2
            after[content] = after.get(content, 0.0) + likelihood * (1 - probability)
        results = {content: likelihood for content, likelihood in after.items() if likelihood > 0}
    return results


def test_the_policy_has_25_pairs_of_known_operations():
    assert [len(pair) for pair in POLICY_V0] == [2] * 25
    for name, probability, magnitude in (step for pair in POLICY_V0 for step in pair):
        assert name in OPERATION_NAMES
        assert 0 <= probability <= 1
        assert 0 <= magnitude <= 10


def test_images_follow_the_policys_probabilities():
    augment = autoaugment()
    expected: dict[bytes, float] = {}
    for pair in POLICY_V0:
        for content, likelihood in outcomes(pair).items():
            expected[content] = expected.get(content, 0.0) + likelihood / len(POLICY_V0)
    count = 1000
    images = tf.data.Dataset.range(count).map(lambda index: augment(tf.constant(IMAGE), tf.stack([index, 9])))
    found = collections.Counter(image.tobytes() for image in images.batch(count).get_single_element().numpy())
    assert set(found) <= set(expected)  # no image that the policy cannot make
    for content, likelihood in expected.items():
        deviation = abs(found[content] - count * likelihood)
        assert deviation < 5 * np.sqrt(count * likelihood * (1 - likelihood)) + 1


def test_the_same_seed_gives_the_same_image():
    augment = autoaugment()
    function = tf.function(lambda seed: augment(tf.constant(IMAGE), seed), autograph=False)
    images = [[function(seed(index)).numpy() for index in range(20)] for _ in range(2)]
    np.testing.assert_array_equal(*images)


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match="'mine'; allowed: official, corrected"):
        autoaugment(operations="mine")
