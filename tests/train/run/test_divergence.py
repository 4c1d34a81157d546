"""The values that count as divergence of a run."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from effnetv2_jax.train.checkpoint.arrays import snapshot
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.state import create_state
from effnetv2_jax.train.run.divergence import Diverged, check_finite, check_metrics

STAGE = Stage(
    index=0, first_step=0, end_step=9, image_size=32, magnitude=0, mixup_alpha=0, cutmix_alpha=0, dropout_rate=0,
    drop_path_rate=0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("metrics", "message", "ruined"),
    [
        ({"loss": np.nan, "grad_norm": np.nan}, "the loss is nan at step 5", 4),
        ({"loss": -np.inf, "grad_norm": 1.0}, "the loss is -inf at step 5", 4),
        ({"loss": 1.0, "grad_norm": np.inf}, "the norm of the gradients is inf at step 5", None),
    ],
)
def test_only_a_loss_that_is_not_finite_blames_the_previous_state(metrics, message, ruined):
    check_metrics({"loss": 1.0, "grad_norm": 1.0, "learning_rate": 0.1}, 5, STAGE)
    with pytest.raises(Diverged, match=message) as error:
        check_metrics(metrics | {"learning_rate": 0.1}, 5, STAGE)
    assert error.value.ruined_step == ruined


@pytest.mark.parametrize("field", ["params", "batch_stats", "opt_state", "ema_params", "ema_batch_stats"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_every_part_of_a_state_must_be_finite(field, value):
    variables = {"params": {"w": jnp.ones(3)}, "batch_stats": {"w": jnp.ones(3)}}
    state = create_state(variables, optax.trace(0.9), averaged=True)
    check_finite(snapshot(state), 5)
    leaf = jnp.array([0.0, value, 0.0])
    broken = optax.TraceState({"w": leaf}) if field == "opt_state" else {"w": leaf}
    with pytest.raises(Diverged, match=rf"^{field}/.* not finite after step 5"):
        check_finite(snapshot(state.replace(**{field: broken})), 5)
