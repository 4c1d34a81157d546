"""Mixup and CutMix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from effnetv2_jax.train.recipe.mixup import beta, mix

N, SIZE = 8, 16


@functools.cache
def mixed(mixup_alpha, cutmix_alpha, seed=0, batch=N, size=SIZE):
    """Mixes images whose pixels equal their index, with one-hot targets, so that the result shows what was mixed."""
    images = jnp.broadcast_to(jnp.arange(float(batch))[:, None, None, None], (batch, size, size, 1))
    out = jax.jit(mix, static_argnums=(3, 4))(jax.random.key(seed), images, jnp.eye(batch), mixup_alpha, cutmix_alpha)
    return tuple(np.asarray(value) for value in out)


def test_alphas_of_0_change_nothing():
    images, targets = mixed(0.0, 0.0)
    assert np.array_equal(images[:, 0, 0, 0], np.arange(N))
    assert np.array_equal(targets, np.eye(N))


def test_mixup_blends_each_image_with_its_mirror_in_the_batch():
    images, targets = mixed(0.4, 0.0)
    for k in range(N):
        share = targets[k, k]
        assert 0.5 <= share <= 1.0
        assert targets[k, N - 1 - k] == pytest.approx(1 - share, abs=1e-6)
        np.testing.assert_allclose(images[k], k * share + (N - 1 - k) * (1 - share), rtol=1e-5, atol=1e-5)
    assert len(np.unique(np.round(targets.diagonal(), 5))) > 1, "each image has its own weight"


def test_cutmix_pastes_a_box_and_weights_the_target_by_its_area():
    images, targets = mixed(0.0, 1.0)
    areas = []
    for k in range(N):
        pasted = images[k, :, :, 0] == N - 1 - k
        assert np.all(pasted | (images[k, :, :, 0] == k))
        rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
        assert pasted.sum() == len(rows) * len(columns), "the pasted part is a box"
        assert targets[k, k] == pytest.approx(1 - pasted.mean(), abs=1e-6)
        areas.append(pasted.mean())
    assert len(set(areas)) > 1


def test_mixup_and_cutmix_together_each_mix_one_half_of_the_batch():
    images, targets = mixed(0.4, 1.0)
    half = N // 2
    for k in range(N):
        partner = half - 1 - k if k < half else N + half - 1 - k
        assert set(np.flatnonzero(targets[k] > 1e-6)) <= {k, partner}
    flat = images[:, :, :, 0].reshape(N, -1)
    assert np.all(np.ptp(flat[:half], axis=1) < 1e-5), "mixup changes all pixels alike"
    assert any(np.ptp(row) > 0 for row in flat[half:])


def test_targets_of_an_odd_batch_sum_to_1():
    for alphas in ((0.2, 0.0), (0.0, 1.0), (0.2, 1.0)):
        _, targets = mixed(*alphas, batch=5)
        np.testing.assert_allclose(targets.sum(-1), 1.0, rtol=1e-6)


def test_cutmix_areas_are_uniform_for_alpha_1():
    _, targets = mixed(0.0, 1.0, batch=512, size=128)
    # Before the box is clipped at the borders, its area is uniform. Its centre is uniform too, so a side r (as a share
    # of the image) has the expected clipped length r − r²/4. Hence E[area] = ∫ (r − r²/4)² d(r²) = 1/2 − 1/5 + 1/48.
    pasted = 1 - targets.diagonal()
    assert pasted.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.05)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0])
def test_weights_follow_the_beta_distribution(alpha):
    drawn = np.asarray(beta(jax.random.key(0), alpha, (20_000,)))
    assert drawn.min() >= 0.0
    assert drawn.max() <= 1.0
    # Float32 is too coarse just below 1, where a small alpha has much of its mass, so only the lower half is tested.
    lower = drawn[drawn < 0.5]
    assert abs(len(lower) / len(drawn) - 0.5) < 0.02
    assert scipy.stats.kstest(lower, lambda x: 2 * scipy.stats.beta(alpha, alpha).cdf(x)).pvalue > 1e-3
