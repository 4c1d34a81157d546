"""The losses equal those of TensorFlow."""

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from effnetv2_jax.train.recipe.losses import LossConfig, is_decayed, l2_penalty, make_loss, one_hot

LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0]], np.float32)
LABELS = np.array([0, 1])


MULTI_HOT = np.array([[1, 0, 1], [0, 0, 1]], np.float32)


def loss(targets, **fields):
    return np.asarray(make_loss(LossConfig(**fields))(jnp.asarray(LOGITS), jnp.asarray(targets)))


def tensorflow_loss(name, targets, smoothing):
    """Returns the loss of each value by the function of TensorFlow 1 that the official code calls."""
    function = getattr(tf.compat.v1.losses, name)
    return function(targets, LOGITS, label_smoothing=smoothing, reduction=tf.compat.v1.losses.Reduction.NONE).numpy()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_loss_equals_tensorflow(smoothing):
    targets = np.eye(3, dtype=np.float32)[LABELS]
    expected = tensorflow_loss("softmax_cross_entropy", targets, smoothing)
    np.testing.assert_allclose(loss(targets, label_smoothing=smoothing), expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sigmoid_loss_equals_the_mean_of_tensorflow_over_the_classes(smoothing):
    expected = tensorflow_loss("sigmoid_cross_entropy", MULTI_HOT, smoothing).mean(-1)
    np.testing.assert_allclose(loss(MULTI_HOT, kind="sigmoid", label_smoothing=smoothing), expected, rtol=1e-6)


def test_multi_hot_loss_equals_softmax_with_normalised_labels():
    expected = tensorflow_loss("softmax_cross_entropy", MULTI_HOT / MULTI_HOT.sum(-1, keepdims=True), 0.1)
    np.testing.assert_allclose(loss(MULTI_HOT, kind="multi_hot", label_smoothing=0.1), expected, rtol=1e-6)


def test_the_l2_penalty_applies_only_to_kernels():
    params = {"a": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.ones(2)}, "n": {"scale": jnp.ones(2)}}
    assert float(l2_penalty(params, 0.1)) == pytest.approx(0.1 * 0.5 * 36)
    assert is_decayed("block_0/se/reduce/kernel")
    assert not any(is_decayed(f"stem_norm/{leaf}") for leaf in ("scale", "bias"))


def test_labels_become_one_hot_and_multi_hot_labels_are_unchanged():
    np.testing.assert_array_equal(one_hot(jnp.array([1, 0]), 3), [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(one_hot(jnp.array([[1, 1, 0]]), 3), [[1, 1, 0]])


def test_a_label_smoothing_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"loss.label_smoothing .*\[0, 1\).* 1\.0"):
        make_loss(LossConfig(label_smoothing=1.0))
