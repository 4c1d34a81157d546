"""BatchNorm folded into the convolutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import reference

from effnetv2_jax import VARIANTS, create_model, fold_batch_norm
from effnetv2_jax.model.variables import variable_shapes

SPECS = {
    "V2": VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1),
    "article": VARIANTS["article-s"].scaled(width=0.25, depth=0.1),
    "V1": VARIANTS["efficientnet-b0"].scaled(width=0.25, depth=0.1),
}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)


@functools.cache
def logits(name, *, folded, dtype="float32", classes=10):
    """The logits of a network whose BatchNorm has statistics and factors that matter."""
    model = create_model(SPECS[name], num_classes=classes, dtype=jnp.dtype(dtype))
    variables = reference.official_variables(SPECS[name], classes)

    @jax.jit
    def apply(variables, images):
        network, values = fold_batch_norm(model, variables) if folded else (model, variables)
        return network.apply(values, images, train=False)

    return np.asarray(apply(variables, IMAGES))


@pytest.mark.parametrize("name", SPECS)
def test_the_folded_network_gives_the_same_logits(name):
    assert reference.relative(logits(name, folded=True), logits(name, folded=False)) < 5e-6


def test_in_bfloat16_the_folded_network_is_as_close_to_float32():
    exact = logits("V2", folded=False)
    errors = [reference.relative(logits("V2", folded=folded, dtype="bfloat16"), exact) for folded in (True, False)]
    assert errors[0] < 2 * errors[1]
    assert max(errors) < 0.02


def test_the_folded_variables_are_those_of_the_folded_network_and_have_no_batch_norm():
    model = create_model(reference.TINY, num_classes=10)
    network, variables = fold_batch_norm(model, reference.official_variables(reference.TINY, 10))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, variable_shapes(network))
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float32 for leaf in jax.tree.leaves(variables))
    text = str(jax.tree.structure(variables))
    assert "norm" not in text
    assert "batch_stats" not in text


def test_a_folded_network_is_neither_folded_again_nor_trained():
    model = create_model(reference.TINY, num_classes=10)
    network, variables = fold_batch_norm(model, reference.official_variables(reference.TINY, 10))
    with pytest.raises(ValueError, match="folded into its convolutions already"):
        fold_batch_norm(network, variables)
    with pytest.raises(ValueError, match="cannot be trained"):
        network.apply(variables, IMAGES, train=True)
