"""Fresh weights have the distributions of the official code."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.model.initializers import ARTICLE_CLASSIFIER, CLASSIFIER, CONV, DEPTHWISE
from effnetv2_jax.model.variables import init_variables

SPECS = {
    "efficientnetv2": VARIANTS["efficientnetv2-b0"].scaled(width=0.5, depth=0.3),
    "efficientnet": VARIANTS["efficientnet-b0"].scaled(width=0.5, depth=0.3),
    "article": VARIANTS["article-s"].scaled(width=0.5, depth=0.1),
}
CLASSES = 100
SIGMAS = 5.0


@pytest.fixture(scope="module", params=SPECS)
def fresh(request):
    """The name of a network, its tensors, and its fresh leaves by path."""
    spec = SPECS[request.param]
    variables = init_variables(create_model(spec, num_classes=CLASSES), 3)
    return request.param, network_tensors(spec, CLASSES), traverse_util.flatten_dict(variables, sep="/")


def assert_deviation(values: np.ndarray, expected: float, kurtosis: float) -> None:
    """Checks for mean 0 and the standard deviation, within the sampling error of independent values."""
    n = values.size
    assert abs(values.mean()) <= SIGMAS * expected / n**0.5
    assert abs(values.std() / expected - 1) <= SIGMAS * ((kurtosis - 1) / (4 * n)) ** 0.5


def test_convolutions_are_normal_with_a_deviation_from_the_fan_out(fresh):
    _, rows, leaves = fresh
    kernels = [row for row in rows if row.kind in ("conv", "depthwise", "squeeze")]
    assert {row.kind for row in kernels} == {"conv", "depthwise", "squeeze"}
    for row in kernels:
        k, _, _, out = row.shape
        fan_out = k * k * (1 if row.kind == "depthwise" else out)
        assert_deviation(leaves[row.path], (2 / fan_out) ** 0.5, kurtosis=3.0)


def test_the_normal_distribution_of_convolutions_is_not_truncated(fresh):
    _, rows, leaves = fresh
    scaled = [leaves[row.path] / leaves[row.path].std() for row in rows if row.kind == "conv"]
    beyond = np.mean(np.abs(np.concatenate([values.ravel() for values in scaled])) > 2.0)
    assert 0.040 < beyond < 0.051  # 4.55 % for a normal distribution, none for a truncated one


def test_the_classifier_is_uniform_or_for_the_article_normal(fresh):
    name, _, leaves = fresh
    kernel = leaves["params/classifier/kernel"]
    if name == "article":
        assert_deviation(kernel, 0.001, kurtosis=3.0)
    else:
        limit = CLASSES**-0.5
        assert_deviation(kernel, limit / 3**0.5, kurtosis=1.8)
        assert 0.99 * limit < np.abs(kernel).max() <= limit


def test_vectors_start_as_ones_or_zeros(fresh):
    _, rows, leaves = fresh
    for row in rows:
        if row.kind == "vector":
            assert np.all(leaves[row.path] == (1.0 if row.path.endswith(("/scale", "/var")) else 0.0)), row.path


@pytest.mark.parametrize("distribution", [CONV, DEPTHWISE, CLASSIFIER, ARTICLE_CLASSIFIER])
def test_flax_and_the_host_draw_from_the_same_distribution(distribution):
    shape = (64, CLASSES) if distribution in (CLASSIFIER, ARTICLE_CLASSIFIER) else (3, 3, 16, 40)
    kurtosis = 1.8 if distribution is CLASSIFIER else 3.0
    expected = distribution.spread(shape) / (3**0.5 if distribution is CLASSIFIER else 1.0)
    assert_deviation(np.asarray(distribution(jax.random.key(1), shape)), expected, kurtosis)
    assert_deviation(distribution.draw(np.random.default_rng(1), shape), expected, kurtosis)


def test_weights_depend_on_the_seed():
    model = create_model(SPECS["efficientnetv2"], num_classes=3)
    first, again, other = (traverse_util.flatten_dict(init_variables(model, seed), sep="/") for seed in (1, 1, 2))
    kernel = "params/block_0/fused_conv/kernel"
    assert np.array_equal(first[kernel], again[kernel])
    assert not np.array_equal(first[kernel], other[kernel])
