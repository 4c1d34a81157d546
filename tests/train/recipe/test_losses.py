"""Losses against their definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

from effnetv2_jax.train.recipe.losses import LossConfig, is_decayed, l2_penalty, make_loss, one_hot

LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0]], np.float32)
LABELS = np.array([0, 1])


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def loss(targets, **fields):
    return np.asarray(make_loss(LossConfig(**fields))(jnp.asarray(LOGITS), jnp.asarray(targets)))


def test_softmax_with_label_smoothing():
    targets = np.eye(3, dtype=np.float32)[LABELS]
    smoothed = 0.9 * targets + 0.1 / 3
    np.testing.assert_allclose(loss(targets), -(smoothed * log_softmax(LOGITS)).sum(-1), rtol=1e-6)


def test_sigmoid_smooths_towards_a_half_and_takes_the_mean_over_classes():
    targets = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    smoothed = 0.8 * targets + 0.1
    p = 1 / (1 + np.exp(-LOGITS))
    expected = -(smoothed * np.log(p) + (1 - smoothed) * np.log(1 - p)).mean(-1)
    np.testing.assert_allclose(loss(targets, kind="sigmoid", label_smoothing=0.2), expected, rtol=1e-5)


def test_multi_hot_is_softmax_against_labels_of_sum_1():
    targets = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    expected = -(targets / targets.sum(-1, keepdims=True) * log_softmax(LOGITS)).sum(-1)
    np.testing.assert_allclose(loss(targets, kind="multi_hot", label_smoothing=0.0), expected, rtol=1e-5)


def test_the_l2_penalty_takes_kernels_only():
    params = {"a": {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.ones(2)}, "n": {"scale": jnp.ones(2)}}
    assert float(l2_penalty(params, 0.1)) == pytest.approx(0.1 * 0.5 * 36)
    assert is_decayed("block_0/se/reduce/kernel")
    assert not any(is_decayed(f"stem_norm/{leaf}") for leaf in ("scale", "bias"))


def test_labels_become_targets_and_multi_hot_ones_stay():
    np.testing.assert_array_equal(one_hot(jnp.array([1, 0]), 3), [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(one_hot(jnp.array([[1, 1, 0]]), 3), [[1, 1, 0]])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "hinge"}, "unknown loss 'hinge'; known losses: softmax, sigmoid, multi_hot"),
        ({"label_smoothing": 1.0}, r"loss.label_smoothing must lie in \[0, 1\), got 1.0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make_loss(LossConfig(**fields))
