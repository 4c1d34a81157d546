"""One training step: it equals the official code, and accumulates, mixes and freezes as configured."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden import reference

from effnetv2_jax import create_model
from effnetv2_jax.convert.frameworks.official import OFFICIAL
from effnetv2_jax.convert.tensors import network_tensors
from effnetv2_jax.data.images.families import FAMILIES
from effnetv2_jax.model.convolution import convolve
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train.recipe import parameter_paths
from effnetv2_jax.train.recipe.frozen import frozen_parameters
from effnetv2_jax.train.recipe.losses import LossConfig, make_loss
from effnetv2_jax.train.recipe.optimizer import OptimizerConfig, l2_in_loss, make_optimizer
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.schedule import ScheduleConfig, make_schedule
from effnetv2_jax.train.recipe.state import create_state, ema_decay, update_averages
from effnetv2_jax.train.recipe.step import Recipe, make_train_step, normalize, prepare

STAGE = Stage(0, 0, 8, 32, magnitude=0.0, mixup_alpha=0.0, cutmix_alpha=0.0, dropout_rate=0.0, drop_path_rate=0.0)
# The golden images are already normalised.
AS_THEY_ARE = dataclasses.replace(FAMILIES["v2"], mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def make_recipe(spec=reference.TINY, variables=None, **fields):
    """The official recipe of the golden steps: batch 16, two steps an epoch, one epoch of warm-up."""
    model = create_model(spec, num_classes=10)
    config = OptimizerConfig(schedule=ScheduleConfig(warmup_epochs=1.0), **fields)
    rate = make_schedule(config.schedule, batch_size=16, steps_per_epoch=2.0, total_steps=8)
    params = (variables or init_variables(model, 0))["params"]
    frozen = frozen_parameters(config.frozen, config.frozen_rows, model.spec, params)
    return Recipe(
        model, make_optimizer(config, rate, model.spec, params, frozen), rate, make_loss(LossConfig()), AS_THEY_ARE,
        seed=0, weight_decay=l2_in_loss(config), ema_decay=0.9999, frozen=frozen,
    )  # fmt: skip


def golden_batches(labels):
    images = np.random.default_rng(99).uniform(-1, 1, (8, 16, 32, 32, 3)).astype(np.float32)
    return [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]


@functools.cache
def golden_run(accumulation_steps=1):
    """Returns the expected arrays, and the state and the metrics after each of the eight golden batches."""
    expected = np.load(reference.FOLDER / "official_training.npz")
    variables = reference.official_variables(reference.TINY, 10)
    recipe = dataclasses.replace(make_recipe(variables=variables), accumulation_steps=accumulation_steps)
    state = create_state(variables, recipe.optimizer, averaged=True)
    step = jax.jit(make_train_step(recipe, STAGE))
    states, metrics = [], []
    for batch in golden_batches(expected["labels"]):
        state, values = step(state, batch)
        states.append(state)
        metrics.append(jax.device_get(values))
    return expected, states, metrics


def test_losses_of_eight_steps_equal_the_official_ones():
    expected, _, metrics = golden_run()
    for name in ("loss", "xent", "l2"):
        np.testing.assert_allclose([values[name] for values in metrics], expected[name], rtol=2e-6, err_msg=name)
    np.testing.assert_allclose([values["learning_rate"] for values in metrics], expected["lr"], rtol=1e-6)


@pytest.mark.parametrize("step", [1, 4, 8])
@pytest.mark.parametrize("suffix", ["", "/ExponentialMovingAverage"])
def test_variables_after_a_step_equal_the_official_ones(step, suffix):
    expected, states, _ = golden_run()
    state = states[step - 1]
    got = parameter_paths.flatten(state.weights["averaged" if suffix else "raw"])
    for tensor in network_tensors(reference.TINY, 10):
        value = OFFICIAL.layout_of(tensor).to_flax(expected[f"step{step}/{OFFICIAL.name_of(tensor)}{suffix}"])
        assert reference.relative(got[tensor.path], value) <= 1e-5, tensor.path


def test_accumulation_normalises_each_microbatch_separately():
    expected, (state, *_), metrics = golden_run(accumulation_steps=2)
    assert int(state.step) == 1
    np.testing.assert_allclose(metrics[0]["l2"], expected["l2"][0], rtol=1e-6)
    # A step updates the statistics twice: with the moments of the even images of the batch, then of the odd ones.
    variables = reference.official_variables(reference.TINY, 10)
    images = golden_batches(expected["labels"])[0]["image"]
    mean = variables["batch_stats"]["stem_norm"]["mean"]
    for part in (images[0::2], images[1::2]):
        maps = convolve(
            jnp.asarray(part), jnp.asarray(variables["params"]["stem_conv"]["kernel"]), stride=2, padding="same"
        )
        mean = 0.9 * mean + 0.1 * np.asarray(maps).mean((0, 1, 2))
    np.testing.assert_allclose(state.batch_stats["stem_norm"]["mean"], mean, rtol=1e-4, atol=1e-6)


def test_a_batch_that_does_not_divide_into_microbatches_is_refused():
    recipe = dataclasses.replace(make_recipe(), accumulation_steps=3)
    state = create_state(init_variables(recipe.model, 0), recipe.optimizer, averaged=True)
    with pytest.raises(ValueError, match=r"16 .* 3 "):
        jax.eval_shape(make_train_step(recipe, STAGE), state, golden_batches(np.zeros((8, 16), int))[0])


def test_images_are_normalised_on_the_device():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    got = np.asarray(normalize(jnp.asarray(images), FAMILIES["v2"]))
    np.testing.assert_allclose(got, (images.astype(np.float32) - 128) / 128, rtol=1e-6)


def test_mixing_depends_only_on_the_seed_and_the_step():
    recipe, mixing = make_recipe(), dataclasses.replace(STAGE, mixup_alpha=0.4)
    batch = golden_batches(np.zeros((8, 16), np.int32))[0]
    drawn = jax.jit(lambda step: prepare(recipe, mixing, batch, step)[0])
    assert np.array_equal(drawn(3), drawn(3))
    assert not np.array_equal(drawn(3), drawn(4))
    seeded = jax.jit(lambda seed: prepare(dataclasses.replace(recipe, seed=seed), mixing, batch, jnp.asarray(3))[0])
    assert np.array_equal(drawn(3), seeded(np.uint32(0)))
    assert not np.array_equal(drawn(3), seeded(np.uint32(1)))


def test_moving_averages_warm_up_as_in_tensorflow():
    assert float(ema_decay(0.9999, jnp.asarray(1))) == pytest.approx(2 / 11)
    assert float(ema_decay(0.9999, jnp.asarray(10**7))) == pytest.approx(0.9999)
    moved = update_averages({"a": jnp.array([1.0])}, {"a": jnp.array([3.0])}, jnp.float32(0.75))
    np.testing.assert_allclose(moved["a"], 1.5)


def leaves(state):
    """Returns the arrays of a state by path, without those that count steps."""
    found = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
    return {path: leaf for path, leaf in found.items() if path != ".step" and leaf.shape != ()}


def counts(state):
    """Returns the numbers of steps that the optimiser's schedule and its Adam have counted."""
    kinds = (optax.ScaleByScheduleState, optax.ScaleByAdamState)
    nodes = jax.tree.leaves(state.opt_state, is_leaf=lambda node: isinstance(node, kinds))
    return {type(node).__name__: int(node.count) for node in nodes if isinstance(node, kinds)}


def changed(before, after):
    """Returns the paths of the arrays that differ between two states."""
    before, after = leaves(before), leaves(after)
    return [path for path in before if not np.array_equal(before[path], after[path])]


@pytest.mark.parametrize(
    ("accumulation_steps", "fields"),
    [
        pytest.param(2, {"clip_norm": 1.0}, id="accumulated"),
        pytest.param(1, {"name": "adamw", "frozen": ("stem",)}, id="adamw", marks=pytest.mark.slow),
    ],
)
def test_a_step_that_is_not_finite_changes_only_the_step_and_the_schedule(accumulation_steps, fields):
    recipe = dataclasses.replace(make_recipe(**fields), accumulation_steps=accumulation_steps, skips_bad_steps=True)
    state = create_state(init_variables(recipe.model, 0), recipe.optimizer, averaged=True)
    good = golden_batches(np.arange(8 * 16).reshape(8, 16) % 10)
    bad = {"image": good[1]["image"].copy(), "label": good[1]["label"]}
    bad["image"][3, 0, 0, 0] = np.nan
    step = jax.jit(make_train_step(recipe, STAGE))
    states, metrics = [state], []
    for batch in (good[0], bad, good[2]):
        state, values = step(state, batch)
        states.append(state)
        metrics.append(jax.device_get(values))
    assert [values["skipped"] for values in metrics] == [0, 1, 0]
    assert [bool(np.isfinite(values["loss"])) for values in metrics] == [True, False, True]
    assert changed(states[0], states[1])
    assert changed(states[1], states[2]) == []
    assert any("classifier" in path for path in changed(states[2], states[3]))
    assert [int(each.step) for each in states] == [0, 1, 2, 3]
    assert [counts(each)["ScaleByScheduleState"] for each in states] == [0, 1, 2, 3]
    if fields.get("name") == "adamw":  # its moments have not seen the bad step
        assert [counts(each)["ScaleByAdamState"] for each in states] == [0, 1, 1, 2]


def test_a_step_with_a_finite_loss_is_skipped_if_its_gradients_are_not():
    def loss(logits, _):
        return jnp.sqrt(0.0 * logits[:, 0])

    recipe = dataclasses.replace(make_recipe(), skips_bad_steps=True, loss=loss)
    state = create_state(init_variables(recipe.model, 0), recipe.optimizer, averaged=True)
    after, metrics = jax.jit(make_train_step(recipe, STAGE))(state, golden_batches(np.zeros((8, 16), int))[0])
    assert np.isfinite(metrics["loss"])
    assert not np.isfinite(metrics["grad_norm"])
    assert float(metrics["skipped"]) == 1
    assert changed(state, after) == []


def test_no_step_is_skipped_by_default():
    recipe = make_recipe()
    state = create_state(init_variables(recipe.model, 0), recipe.optimizer, averaged=True)
    _, metrics = jax.eval_shape(make_train_step(recipe, STAGE), state, golden_batches(np.zeros((8, 16), int))[0])
    assert "skipped" not in metrics
