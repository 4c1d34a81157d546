"""Distillation: the loss is that of PyTorch's functions, and the teacher sees its own normalisation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from train.recipe.test_step import STAGE, golden_batches, make_recipe

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.data.images.families import FAMILIES
from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train.recipe.distillation import (
    DistillationConfig,
    Teacher,
    make_distillation,
    renormalized,
)
from effnetv2_jax.train.recipe.state import create_state
from effnetv2_jax.train.recipe.step import make_train_step, normalize

SPEC = VARIANTS["efficientnetv2-b0"].scaled(width=0.1, depth=0.1)
RECIPE = make_recipe(SPEC)


def teacher(num_classes=10, family=RECIPE.family):
    model = create_model(SPEC, num_classes=num_classes)
    return Teacher(model, family, sharp(init_variables(model, 7)))


def sharp(variables):
    """Returns variables with a larger classifier, whose logits differ as those of a trained network do."""
    classifier = {**variables["params"]["classifier"], "kernel": 300 * variables["params"]["classifier"]["kernel"]}
    return {**variables, "params": {**variables["params"], "classifier": classifier}}


def test_the_loss_is_the_weighted_sum_of_the_labels_and_the_teacher():
    taught = teacher()
    recipe = dataclasses.replace(
        RECIPE, distillation=make_distillation(DistillationConfig(weight=0.3, temperature=4.0), taught, 10)
    )
    variables = sharp(init_variables(recipe.model, 0))
    state = create_state(variables, recipe.optimizer, averaged=True)
    stage = dataclasses.replace(STAGE, head_only=True)  # runs as in evaluation, so that the logits are known
    batch = golden_batches(np.arange(8 * 16).reshape(8, 16) % 10)[0]
    _, metrics = jax.jit(make_train_step(recipe, stage))(state, batch, taught.variables)
    mine, theirs = (
        torch.from_numpy(np.array(recipe.model.apply(each, batch["image"], train=False)))
        for each in (variables, taught.variables)
    )
    divergence = torch.nn.functional.kl_div(
        torch.log_softmax(mine / 4, -1), torch.softmax(theirs / 4, -1), reduction="batchmean"
    )
    labels = torch.nn.functional.cross_entropy(mine, torch.from_numpy(batch["label"]), label_smoothing=0.1)
    assert float(metrics["distillation"]) == pytest.approx(16 * float(divergence), rel=1e-4)
    assert float(metrics["xent"]) == pytest.approx(float(labels), rel=1e-5)
    expected = 0.7 * float(labels) + 0.3 * 16 * float(divergence) + float(metrics["l2"])
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)


def test_a_network_that_equals_its_teacher_has_no_distance_and_no_gradient():
    taught = teacher()
    distillation = make_distillation(DistillationConfig(weight=1.0, temperature=2.0), taught, 10)
    images = golden_batches(np.zeros((8, 16), int))[0]["image"]

    def distance(variables):
        logits = taught.model.apply(variables, images, train=False)
        return distillation.loss(logits, images, RECIPE.family, taught.variables).mean()

    value, gradient = jax.jit(jax.value_and_grad(distance))(taught.variables)
    assert abs(float(value)) < 1e-6
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) < 1e-5


def test_the_teacher_sees_images_in_its_own_normalisation():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    v2, legacy = FAMILIES["v2"], FAMILIES["legacy"]
    got = renormalized(normalize(jnp.asarray(pixels), v2), v2, legacy)
    np.testing.assert_allclose(got, normalize(jnp.asarray(pixels), legacy), atol=2e-6)


@pytest.mark.parametrize(
    ("fields", "classes", "message"),
    [
        ({"weight": 0.0}, 10, r"distillation.weight .* \(0, 1\], got 0.0"),
        ({"temperature": 0.0}, 10, "distillation.temperature .* above 0, got 0.0"),
        ({"teacher": "t.safetensors"}, 5, "t.safetensors has 5 classes, and the data has 10"),
    ],
)
def test_what_does_not_fit_is_refused(fields, classes, message):
    with pytest.raises(ValueError, match=message):
        make_distillation(DistillationConfig(**fields), teacher(classes), 10)
