"""Divergence: numbers that are no longer finite, and the checkpoints that have become useless."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from effnetv2_jax.train.checkpoint.arrays import Arrays
from effnetv2_jax.train.checkpoint.checkpoints import Checkpoints
from effnetv2_jax.train.checkpoint.saver import Saver
from effnetv2_jax.train.recipe.progressive import Stage


class Diverged(FloatingPointError):
    """A run has numbers that are not finite.

    Attributes:
      ruined_step: the step after which the state was already useless; None if unknown.
    """

    def __init__(self, text: str, ruined_step: int | None = None) -> None:
        super().__init__(text)
        self.ruined_step = ruined_step


def check_metrics(metrics: Mapping[str, Any], step: int, stage: Stage) -> None:
    """Checks that the loss and the gradients of a step are finite.

    A loss that is not finite shows that the state before this step was already useless.

    Raises:
      Diverged: if one of them is not; the message names step, stage and learning rate.
    """
    for name, noun in (("loss", "loss"), ("grad_norm", "norm of the gradients")):
        value = float(metrics[name])
        if not math.isfinite(value):
            raise Diverged(
                f"the {noun} is {value} at step {step} (stage {stage.index + 1}, learning rate "
                f"{float(metrics['learning_rate']):.4g}); lower the learning rate or set optimizer.clip_norm",
                step - 1 if name == "loss" else None,
            )


def check_finite(arrays: Arrays, step: int) -> None:
    """Checks that the arrays of a state are finite, including the optimiser's state and the averages.

    Raises:
      Diverged: if they are not; the message names one array.
    """
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise Diverged(
                f"{name} is not finite after step {step}, so the state is not saved; lower the learning rate or set "
                "optimizer.clip_norm"
            )


@contextlib.contextmanager
def ruined_checkpoint_deleted(saver: Saver, checkpoints: Checkpoints) -> Iterator[None]:
    """A context that deletes the checkpoint of a useless state when a run diverges within it.

    A state can be finite and still useless; the loss of the next step shows it. Without that checkpoint, the run
    resumes from an earlier one, whose loss was finite.

    Raises:
      Diverged: the same error, whose message then also names the checkpoints that are left.
    """
    try:
        yield
    except Diverged as caught:
        error = _first_cause(saver, caught)
        step = error.ruined_step
        deleted = step is not None and saver.delete(step)
        gone = f"; the checkpoint of step {step} caused it and is deleted" if deleted else ""
        left = ", ".join(map(str, checkpoints.steps)) or "none"
        raise Diverged(f"{error}{gone}; checkpoints of steps: {left}", step) from None


def _first_cause(saver: Saver, error: Diverged) -> Diverged:
    """Returns the error of a save in progress if it has one, since that state came before the step that diverged."""
    try:
        saver.wait()
    except Diverged as earlier:
        return earlier
    except OSError:  # the save has failed for another reason, and the run ends with the divergence
        pass
    return error
