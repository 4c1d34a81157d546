"""Optimisers, and the effects of the fields of their configuration."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorflow as tf

from effnetv2_jax.model.variants import VARIANTS
from effnetv2_jax.train.recipe.frozen import frozen_parameters
from effnetv2_jax.train.recipe.optimizer import OptimizerConfig, l2_in_loss, make_optimizer

B0 = VARIANTS["efficientnetv2-b0"]
PARAMS = {"stem_conv": {"kernel": jnp.full((2, 2), 0.5)}, "stem_norm": {"bias": jnp.full(2, 0.5)}}
GRADIENTS = {"stem_conv": {"kernel": jnp.full((2, 2), 1e-5)}, "stem_norm": {"bias": jnp.full(2, 1e-5)}}


def updates(transformation):
    return transformation.update(GRADIENTS, transformation.init(PARAMS), PARAMS)[0]


def ours(**fields):
    return updates(optimizer(OptimizerConfig(**fields), lambda _: 0.1, PARAMS))


def optimizer(config, rate, params):
    return make_optimizer(config, rate, B0, params, frozen_parameters(config.frozen, config.frozen_rows, B0, params))


def test_rmsprop_equals_tensorflow_1():
    variable = tf.Variable([0.5, 0.5, 0.5])
    official = tf.compat.v1.train.RMSPropOptimizer(0.1, decay=0.9, momentum=0.9, epsilon=1e-3)
    params = {"kernel": jnp.full(3, 0.5)}
    transformation = optimizer(OptimizerConfig(), lambda _: 0.1, params)
    state = transformation.init(params)
    for k in range(20):
        gradient = np.array([0.5, -2.0, 0.01 * k], np.float32)
        official.apply_gradients([(tf.constant(gradient), variable)])
        update, state = transformation.update({"kernel": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, update)
    np.testing.assert_allclose(params["kernel"], variable.numpy(), rtol=1e-5)


def test_the_default_epsilon_of_rmsprop_is_that_of_tensorflow():
    np.testing.assert_array_equal(ours()["stem_conv"]["kernel"], ours(epsilon=1e-3)["stem_conv"]["kernel"])
    assert not np.array_equal(ours()["stem_conv"]["kernel"], ours(epsilon=1e-8)["stem_conv"]["kernel"])


def test_adamw_has_its_own_epsilon_and_decays_only_kernels():
    got, expected = ours(name="adamw", weight_decay=0.01), updates(optax.adamw(0.1, weight_decay=0.01))
    np.testing.assert_allclose(got["stem_conv"]["kernel"], expected["stem_conv"]["kernel"], rtol=1e-6)
    undecayed = updates(optax.adamw(0.1, weight_decay=0.0))
    np.testing.assert_allclose(got["stem_norm"]["bias"], undecayed["stem_norm"]["bias"], rtol=1e-6)
    assert (
        np.abs(ours(name="adamw", epsilon=1e-3)["stem_norm"]["bias"]).max()
        < 0.1 * np.abs(undecayed["stem_norm"]["bias"]).max()
    )


def test_l2_is_part_of_the_loss_unless_the_optimiser_decays_weights():
    assert l2_in_loss(OptimizerConfig()) == 1e-5
    assert l2_in_loss(OptimizerConfig(name="adamw")) == 0.0


def test_clipping_limits_the_norm_of_each_parameter_and_then_the_global_norm():
    config = OptimizerConfig(name="sgd", momentum=0.0, clip_norm=1.0)
    params = {name: {"kernel": jnp.zeros(2)} for name in ("a", "b")}
    transformation = optimizer(config, optax.constant_schedule(1.0), params)
    grads = {"a": {"kernel": jnp.array([30.0, 40.0])}, "b": {"kernel": jnp.array([0.0, 0.5])}}
    updates, _ = transformation.update(grads, transformation.init(params), params)
    after_each = np.array([0.6, 0.8, 0.0, 0.5])
    expected = -after_each / np.linalg.norm(after_each)
    np.testing.assert_allclose(np.concatenate([updates["a"]["kernel"], updates["b"]["kernel"]]), expected, rtol=1e-5)


def test_frozen_parameters_get_no_updates():
    params = {"stem_norm": {"scale": jnp.ones(2)}, "block_1": {"norm": {"scale": jnp.ones(2)}}}
    one = optimizer(OptimizerConfig(name="sgd", frozen=("stem",)), optax.constant_schedule(1.0), params)
    updates, _ = one.update(jax.tree.map(jnp.ones_like, params), one.init(params), params)
    assert np.all(updates["stem_norm"]["scale"] == 0)
    assert np.all(updates["block_1"]["norm"]["scale"] == -1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"momentum": 1.0}, "optimizer.momentum .* 1.* 1.0"),
        ({"epsilon": -1e-3}, "optimizer.epsilon .* 0.* -0.001"),
        ({"clip_norm": float("nan")}, "optimizer.clip_norm .*finite"),
        ({"layer_decay": -0.5}, "optimizer.layer_decay .* 0.* -0.5"),
        ({"head_rate": float("inf")}, "optimizer.head_rate .* inf"),
        ({"frozen_rows": (0, 6)}, r"optimizer.frozen_rows must name rows .* 0 to 5, got \[6\]"),
        ({"frozen": ("stem",)}, "leave no parameter to train"),
        ({"frozen": ("block_0",)}, "'block_0' .* stem_conv, stem_norm"),
        ({"frozen": ("(",)}, r"'\(' is not a regular expression"),
    ],
)
def test_fields_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ours(**fields)
