"""The network as an NNX module."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, traverse_util
from golden import reference
from golden.official_weights import input_images

from effnetv2_jax import create_model, init_variables, to_nnx

LOGITS = np.load(reference.FOLDER / "official_tiny_64.npz")["logits"]


@pytest.fixture(scope="module")
def tiny():
    """The tiny Linen module, and its variables."""
    return create_model(reference.TINY, num_classes=10), reference.official_variables(reference.TINY, 10)


def compiled(model, images):
    return nnx.jit(lambda model, images: model(images))(model, images)


def test_an_nnx_module_gives_the_logits_of_its_variables(tiny):
    assert reference.relative(compiled(to_nnx(*tiny), input_images(64)), LOGITS) <= 5e-6


def test_an_nnx_module_is_made_without_running_or_tracing_the_network(tiny, monkeypatch):
    monkeypatch.setattr(type(tiny[0]), "__call__", None)
    state = nnx.state(to_nnx(*tiny))
    assert len(jax.tree.leaves(state)) == len(traverse_util.flatten_dict(tiny[1]))


def test_the_module_equals_the_one_that_lazy_init_makes(tiny):
    """Replacing the values of such a module by our variables gives the same state, of the same types."""
    linen, variables = tiny
    lazy = nnx.eval_shape(lambda: nnx.bridge.ToNNX(linen, rngs=nnx.Rngs(0)).lazy_init(jnp.zeros((1, 64, 64, 3))))
    assert nnx.graphdef(to_nnx(linen, variables, rngs=nnx.Rngs(0))) == nnx.graphdef(lazy)


@pytest.mark.slow
def test_an_optimiser_changes_the_parameters_and_training_the_statistics():
    linen = create_model(reference.TINY, num_classes=10, dropout_rate=0.5)
    model = to_nnx(linen, init_variables(linen, 0), rngs=nnx.Rngs(dropout=0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    before = nnx.to_pure_dict(nnx.state(model))

    @nnx.jit
    def step(model, optimizer, images):
        def loss(model):
            return jnp.square(model(images, train=True, mutable=["batch_stats"])).mean()

        optimizer.update(model, nnx.grad(loss)(model))

    step(model, optimizer, input_images(64))
    after = nnx.to_pure_dict(nnx.state(model))
    for path in (("stem_conv", "kernel"), ("stem_norm", "mean"), ("classifier", "bias")):
        old, new = (traverse_util.flatten_dict(tree)[path] for tree in (before, after))
        assert not np.array_equal(old, new), path


def test_variables_without_their_statistics_are_refused(tiny):
    with pytest.raises(ValueError, match="must have the keys params, batch_stats, got params"):
        to_nnx(tiny[0], {"params": tiny[1]["params"]})
