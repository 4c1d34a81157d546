"""The values that count as divergence of a run."""

import functools

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.run.divergence import Diverged, check_finite, check_metrics, ruined_checkpoint_deleted

STAGE = Stage(
    index=0, first_step=0, end_step=9, image_size=32, magnitude=0, mixup_alpha=0, cutmix_alpha=0, dropout_rate=0,
    drop_path_rate=0,
)  # fmt: skip
PARAMS = {"a": jnp.array([3.0]), "b": jnp.array([[0.0, 4.0]])}


@pytest.mark.parametrize(
    ("metrics", "message", "ruined"),
    [
        ({"loss": np.nan, "grad_norm": np.nan}, "the loss is nan at step 5", 4),
        ({"loss": -np.inf, "grad_norm": 1.0}, "the loss is -inf at step 5", 4),
        ({"loss": 1.0, "grad_norm": np.inf}, "the norm of the gradients is inf at step 5", None),
    ],
)
def test_only_a_loss_that_is_not_finite_blames_the_previous_state(metrics, message, ruined):
    check_metrics({"loss": 1.0, "grad_norm": 1.0, "learning_rate": 0.1}, 5, STAGE, PARAMS)
    with pytest.raises(Diverged, match=message) as error:
        check_metrics(metrics | {"learning_rate": 0.1}, 5, STAGE, PARAMS)
    assert error.value.ruined_step == ruined


def test_the_message_tells_where_the_run_was_and_what_to_do():
    with pytest.raises(Diverged) as error:
        check_metrics({"loss": np.nan, "grad_norm": np.inf, "learning_rate": 0.125}, 5, STAGE, PARAMS)
    assert str(error.value) == (
        "the loss is nan at step 5 (stage 1, learning rate 0.125, loss nan, norm of the gradients inf, norm of the "
        "parameters after the step 5); lower the learning rate or set optimizer.clip_norm, or skip such steps with "
        "optimizer.max_bad_steps"
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_array_of_a_state_must_be_finite(dtype, value):
    arrays = {"step": np.array(2**31 - 1), "params/w": np.ones((2, 3), dtype), "opt_state/0/w": np.zeros((), dtype)}
    check = functools.partial(check_finite, stages=(STAGE,), learning_rate=lambda step: step / 8)
    check(arrays, 5)
    arrays["opt_state/0/w"][...] = value
    with pytest.raises(Diverged) as error:
        check(arrays, 5)
    assert str(error.value) == (
        "opt_state/0/w is not finite after step 5 (1 of its 1 numbers; stage 1, learning rate 0.5, norm of the "
        "parameters 2.449), so the state is not saved; lower the learning rate or set optimizer.clip_norm"
    )
    arrays["params/w"][:, 1] = value
    with pytest.raises(Diverged, match=r"^params/w is not finite after step 0 \(2 of its 6 numbers; stage 1, learning"):
        check(arrays, 0)


class FakeCheckpoints:
    """Checkpoints of steps 2 to 6, and their saver; no save is in progress."""

    def __init__(self):
        self.steps = [2, 3, 4, 5, 6]

    def wait(self):
        pass

    def delete(self, step):
        self.steps.remove(step)
        return True


@pytest.mark.parametrize(
    ("ruined_step", "message", "left"),
    [
        (4, "late; the checkpoints of steps 4, 5, 6 caused it and are deleted; checkpoints of steps: 2, 3", [2, 3]),
        (6, "late; the checkpoint of step 6 caused it and is deleted; checkpoints of steps: 2, 3, 4, 5", [2, 3, 4, 5]),
        (7, "late; checkpoints of steps: 2, 3, 4, 5, 6", [2, 3, 4, 5, 6]),
        (None, "late; checkpoints of steps: 2, 3, 4, 5, 6", [2, 3, 4, 5, 6]),
    ],
)
def test_the_useless_state_and_all_later_ones_are_deleted(ruined_step, message, left):
    checkpoints = FakeCheckpoints()
    with pytest.raises(Diverged) as error, ruined_checkpoint_deleted(checkpoints, checkpoints):
        raise Diverged("late", ruined_step)
    assert str(error.value) == message
    assert checkpoints.steps == left
