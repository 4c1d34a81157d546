"""Steps that are not finite are counted, and too many in a row stop the run."""

import jax.numpy as jnp
import numpy as np
import pytest

from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.run.bad_steps import BadSteps
from effnetv2_jax.train.run.divergence import Diverged

STAGE = Stage(
    index=1, first_step=0, end_step=99, image_size=32, magnitude=0, mixup_alpha=0, cutmix_alpha=0, dropout_rate=0,
    drop_path_rate=0,
)  # fmt: skip
PARAMS = {"w": jnp.array([3.0, 4.0])}
OVERFLOW = "overflow"  # the gradients are not finite, though the loss is


def note(bad_steps, first_step, *losses):
    """Notes steps with the given losses."""
    for step, loss in enumerate(losses, first_step):
        grad_norm = np.inf if loss == OVERFLOW else loss
        numbers = {"loss": 1.0 if loss == OVERFLOW else loss, "grad_norm": grad_norm, "learning_rate": 0.125}
        numbers["skipped"] = float(not np.isfinite(grad_norm))
        bad_steps.note(step, {name: jnp.float32(value) for name, value in numbers.items()})


def test_without_a_limit_the_first_bad_step_stops_the_run():
    bad_steps = BadSteps(0)
    note(bad_steps, 1, 1.0, 2.0)
    assert bad_steps.look(STAGE, PARAMS) == []
    note(bad_steps, 3, np.nan)
    with pytest.raises(Diverged, match=r"the loss is nan at step 3 \(stage 2, learning rate 0.125") as error:
        bad_steps.look(STAGE, PARAMS)
    assert error.value.ruined_step == 2


def test_as_many_bad_steps_in_a_row_as_the_limit_are_skipped_and_each_is_told_once():
    bad_steps = BadSteps(2)
    note(bad_steps, 1, 1.0, np.nan, OVERFLOW, 1.0, np.inf)
    assert bad_steps.look(STAGE, PARAMS) == [2, 3, 5]
    assert bad_steps.look(STAGE, PARAMS) == []
    note(bad_steps, 6, np.nan, 1.0, np.nan, np.nan)
    assert bad_steps.look(STAGE, PARAMS) == [6, 8, 9]


def test_one_more_in_a_row_stops_the_run_even_if_it_was_looked_at_in_between():
    bad_steps = BadSteps(2)
    note(bad_steps, 1, 1.0, np.nan)
    assert bad_steps.look(STAGE, PARAMS) == [2]
    note(bad_steps, 3, np.nan, np.nan, 1.0)
    with pytest.raises(Diverged) as error:
        bad_steps.look(STAGE, PARAMS)
    assert str(error.value) == (
        "the loss is nan at step 4, the last of 3 bad steps in a row, and optimizer.max_bad_steps is 2 (stage 2, "
        "learning rate 0.125, loss nan, norm of the gradients nan, norm of the parameters after the step 5); lower the "
        "learning rate or set optimizer.clip_norm"
    )
    assert error.value.ruined_step == 1


def test_a_finite_loss_among_the_bad_steps_clears_the_state():
    bad_steps = BadSteps(1)
    note(bad_steps, 1, np.nan, 1.0, OVERFLOW, np.nan)
    with pytest.raises(Diverged, match="the loss is nan at step 4, the last of 2 bad steps") as error:
        bad_steps.look(STAGE, PARAMS)
    assert error.value.ruined_step is None
