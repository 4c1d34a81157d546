"""The evaluation step."""

import jax
import numpy as np
import pytest
from golden import reference

from effnetv2_jax import VARIANTS, create_model
from effnetv2_jax.data.images.families import FAMILIES
from effnetv2_jax.train.recipe.eval_step import make_eval_step
from effnetv2_jax.train.recipe.losses import LossConfig, make_loss

SPEC = VARIANTS["efficientnetv2-b0"].scaled(width=0.25, depth=0.1)


def test_a_step_that_folds_batch_norm_gives_the_same_sums():
    model, variables = create_model(SPEC, num_classes=10), reference.official_variables(SPEC, 10)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (6, 32, 32, 3)).astype(np.uint8),
        "label": rng.integers(0, 10, 6),
        "mask": np.array([1, 1, 1, 1, 1, 0]),
    }
    kept, folded = (
        jax.jit(make_eval_step(model, FAMILIES["v2"], make_loss(LossConfig()), folds_batch_norm=folds))(
            variables, batch
        )
        for folds in (False, True)
    )
    assert float(kept["count"]) == 5
    assert {name: float(value) for name, value in folded.items()} == pytest.approx(
        {name: float(value) for name, value in kept.items()}, rel=1e-5
    )
