"""The network as a Flax module."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.model.layers import BatchNorm, drop_path
from effnetv2_jax.model.variables import init_variables, variable_shapes

TINY = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)


@functools.cache
def tiny(**fields):
    model = create_model(TINY, num_classes=5, **fields)
    return model, init_variables(model, 0)


def images(batch=4, size=32):
    return np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)


def test_logits_and_end_points_have_the_documented_shapes():
    model, variables = tiny()
    logits, ends = jax.jit(functools.partial(model.apply, return_endpoints=True))(variables, images())
    assert (logits.shape, logits.dtype) == ((4, 5), jnp.float32)
    blocks = len(list(TINY.blocks()))
    reductions = [f"reduction_{k}" for k in range(1, 6)]
    assert set(ends) == {"stem", *(f"block_{i}" for i in range(blocks)), *reductions, "features", "pooled_features"}
    assert [ends[name].shape[1] for name in reductions] == [16, 8, 4, 2, 1]
    assert ends["pooled_features"].shape == (4, TINY.head_width)
    assert ends["reduction_5"] is ends[f"block_{blocks - 1}"] or np.array_equal(
        ends["reduction_5"], ends[f"block_{blocks - 1}"]
    )


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32():
    model, variables = tiny(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"], return_endpoints=True))
    (logits, ends), updates = apply(variables, images(), rngs={"dropout": jax.random.key(0)})
    assert logits.dtype == jnp.float32
    assert ends["block_0"].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.float32)}


def test_bfloat16_evaluation_is_close_to_float32():
    (exact, variables), (rounded, _) = tiny(), tiny(dtype=jnp.bfloat16)
    a, b = (jax.jit(model.apply)(variables, images()) for model in (exact, rounded))
    assert np.abs(a - b).max() < 0.03 * np.abs(a).max()


def test_no_classes_give_the_pooled_features():
    model = create_model(TINY, num_classes=0)
    assert "classifier" not in variable_shapes(model)["params"]
    out = jax.eval_shape(model.apply, variable_shapes(model), jnp.zeros((2, 32, 32, 3)))
    assert out.shape == (2, TINY.head_width)


def test_symmetric_padding_changes_the_logits_but_not_the_variables():
    (same, variables), (symmetric, _) = tiny(), tiny(padding="symmetric")
    a, b = (jax.jit(model.apply)(variables, images()) for model in (same, symmetric))
    assert np.abs(a - b).max() > 1e-4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": -1}, "num_classes .* 0 .*-1"),
        ({"dtype": jnp.float16}, "float32 or bfloat16.* float16"),
        ({"padding": "valid"}, "'same' or 'symmetric'.* 'valid'"),
        ({"dropout_rate": 1.0}, "dropout_rate .* 0 .* 1.* 1.0"),
        ({"drop_path_rate": -0.1}, "drop_path_rate .* 0 .*-0.1"),
        ({"bn_epsilon": 0.0}, "bn_epsilon must be positive, got 0.0"),
        ({"bn_group_size": -1}, "bn_group_size must be 0 or more, got -1"),
    ],
)
def test_bad_arguments_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        create_model(TINY, **fields)


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="momentum"):
        create_model(TINY, momentum=0.9)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 16, 40, 3), "17×17.* 16×40"), ((2, 32, 32, 1), "N, H, W, 3"), ((0, 32, 32, 3), "the batch has no images")],
)
def test_images_of_a_wrong_shape_are_refused(shape, message):
    model, variables = tiny()
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.apply, variables, jnp.zeros(shape))


def batch_norm(x, group_size=0, *, momentum=0.9):
    norm = BatchNorm(momentum, 1e-3, group_size)
    variables = norm.init(jax.random.key(0), x, train=False)
    return norm.apply(variables, x, train=True, mutable=["batch_stats"])


def test_batch_norm_uses_the_biased_variance():
    x = np.random.default_rng(1).normal(3.0, 2.0, (6, 5, 4, 3)).astype(np.float32)
    y, updates = batch_norm(x)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-3), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * var, rtol=1e-5)


def test_batch_norm_normalises_each_group_separately_and_averages_the_statistics():
    x = np.random.default_rng(2).normal(0.0, 1.0, (8, 3, 3, 2)).astype(np.float32)
    x[4:] += 5.0
    y, updates = batch_norm(x, group_size=4)
    halves = [batch_norm(half) for half in (x[:4], x[4:])]
    np.testing.assert_allclose(y, np.concatenate([half for half, _ in halves]), rtol=1e-5, atol=1e-6)
    for name in ("mean", "var"):
        expected = np.mean([half["batch_stats"][name] for _, half in halves], axis=0)
        np.testing.assert_allclose(updates["batch_stats"][name], expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"8 images .* groups of 3"):
        batch_norm(x, group_size=3)


def test_drop_path_drops_whole_examples_and_keeps_the_expectation():
    x = jnp.ones((4000, 2, 2, 1))
    y = np.asarray(drop_path(x, 0.25, jax.random.key(0)))
    assert set(np.unique(y)) == {np.float32(0.0), np.float32(1 / 0.75)}
    assert np.all(y == y[:, :1, :1, :])
    assert abs((y[:, 0, 0, 0] == 0).mean() - 0.25) < 0.03


def test_dropout_and_drop_path_are_applied_only_in_training():
    model, variables = tiny(drop_path_rate=0.9, dropout_rate=0.9)
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    first, second = (apply(variables, images(), rngs={"dropout": jax.random.key(k)})[0] for k in (0, 1))
    assert not np.array_equal(first, second)
    evaluated = jax.jit(model.apply)(variables, images())
    assert np.array_equal(evaluated, jax.jit(tiny()[0].apply)(variables, images()))


@pytest.mark.parametrize("train", [False, True])
def test_the_network_is_differentiable_in_every_mode(train):
    """Hessian-vector products by both ways of differentiation agree with each other and with finite differences."""
    spec = dataclasses.replace(TINY, rows=(TINY.rows[1], TINY.rows[3]))
    model = create_model(spec, num_classes=3)
    variables, x = init_variables(model, 0), images(2, 16)
    direction = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)

    def loss(x):
        out = model.apply(variables, x, train=train, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
        return jnp.sum(out[0] ** 2)

    @jax.jit
    def products(x):
        forward_over_reverse = jax.jvp(jax.grad(loss), (x,), (direction,))[1]
        reverse_over_forward = jax.grad(lambda x: jax.jvp(loss, (x,), (direction,))[1])(x)
        step = 1e-3
        differences = (jax.grad(loss)(x + step * direction) - jax.grad(loss)(x - step * direction)) / (2 * step)
        return forward_over_reverse, reverse_over_forward, differences

    first, second, differences = products(x)
    scale = np.abs(first).max()
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(first, differences, rtol=0, atol=2e-2 * scale)
