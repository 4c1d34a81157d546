"""Frozen parameters: they keep their bits, and so does all that belongs to them."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from train.recipe.test_step import STAGE, golden_batches, make_recipe

from effnetv2_jax import VARIANTS
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train.checkpoint.arrays import named_leaves
from effnetv2_jax.train.recipe.state import create_state
from effnetv2_jax.train.recipe.step import make_train_step

LABELS = np.arange(8 * 16).reshape(8, 16) % 10
SPEC = VARIANTS["efficientnetv2-b0"].scaled(width=0.1, depth=0.1)  # block i is row i


def changed(before, after):
    """Returns the names of the arrays that two states differ in."""
    one, other = named_leaves(before), named_leaves(after)
    assert one.keys() == other.keys()
    return {name for name in one if not np.array_equal(one[name], other[name])}


@functools.cache
def two_steps(stage=STAGE, accumulation_steps=1, **fields):
    """Returns the state before and after two steps, and the metrics of the last."""
    recipe = dataclasses.replace(make_recipe(SPEC, **fields), accumulation_steps=accumulation_steps)
    before = state = create_state(init_variables(recipe.model, 0), recipe.optimizer, averaged=True)
    step = jax.jit(make_train_step(recipe, stage))
    for batch in golden_batches(LABELS)[:2]:
        state, metrics = step(state, batch)
    return before, state, metrics


def belongs_to(name, layers):
    return any(part.startswith(layers) for part in name.split("/"))


def test_frozen_rows_and_names_keep_their_bits_and_the_others_are_trained():
    frozen = ("stem_", "block_0", "block_1", "block_3")
    before, after, _ = two_steps(frozen=("stem", "block_3/"), frozen_rows=(0, 1))
    moved = changed(before, after)
    assert not [name for name in moved if belongs_to(name, frozen)]
    kept = {name for name in named_leaves(before) if belongs_to(name, frozen)}
    assert {name.split("/")[0] for name in kept} == {"params", "batch_stats", "ema_params", "ema_batch_stats"}
    trained = {name for name in named_leaves(before) if name.startswith(("params/", "batch_stats/"))} - kept
    assert trained <= moved


def test_frozen_batchnorms_normalise_with_their_averages():
    """Everything is frozen but the classifier, whose rate is 0: the loss is that of the evaluation."""
    before, _, metrics = two_steps(frozen=("stem", "block", "head"), name="sgd", head_rate=0.0)
    recipe, batch = make_recipe(SPEC), golden_batches(LABELS)[1]
    logits = recipe.model.apply(before.variables, batch["image"], train=False)
    targets = jax.nn.one_hot(batch["label"], 10)
    assert float(metrics["xent"]) == pytest.approx(float(recipe.loss(logits, targets).mean()), rel=1e-5)


@pytest.mark.parametrize(("name", "accumulation_steps"), [("rmsprop", 1), ("adamw", 2)])
def test_a_stage_for_the_classifier_changes_only_the_classifier(name, accumulation_steps):
    stage = dataclasses.replace(STAGE, head_only=True)
    before, after, metrics = two_steps(stage, accumulation_steps, name=name, weight_decay=0.01, frozen=("stem",))
    moved = {name for name in changed(before, after) if "classifier" not in name}
    assert moved == {name for name in moved if name == "step" or name.endswith("count")}
    assert {"params/classifier/kernel", "ema_params/classifier/bias"} <= changed(before, after)
    assert np.isfinite(metrics["grad_norm"])


def test_the_gradient_norm_is_that_of_the_trained_parameters():
    before, _, metrics = two_steps(frozen=("stem", "block", "head"), name="sgd", head_rate=0.0)
    recipe, batch = make_recipe(SPEC), golden_batches(LABELS)[1]

    def loss(classifier):
        variables = {**before.variables, "params": {**before.params, "classifier": classifier}}
        logits = recipe.model.apply(variables, batch["image"], train=False)
        penalty = 0.5 * recipe.weight_decay * (classifier["kernel"] ** 2).sum()
        return recipe.loss(logits, jax.nn.one_hot(batch["label"], 10)).mean() + penalty

    gradients = jax.grad(loss)(before.params["classifier"])
    assert float(metrics["grad_norm"]) == pytest.approx(float(optax.tree.norm(gradients)), rel=1e-4)
