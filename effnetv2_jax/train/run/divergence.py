"""Divergence: numbers that are no longer finite, and the checkpoints that nothing can go on from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.state import TrainState
from effnetv2_jax.train.run.checkpoint import Checkpoints


class Diverged(FloatingPointError):
    """A run has numbers that are not finite. `ruined` is the step after which the state was lost already, or None."""

    def __init__(self, text: str, ruined: int | None = None) -> None:
        super().__init__(text)
        self.ruined = ruined


def check_metrics(metrics: Mapping[str, Any], step: int, stage: Stage) -> None:
    """Refuses to go on with a loss or gradients that are not finite.

    The loss is of the state before the step, so it is that state which it tells of.

    Raises:
      Diverged: saying where it happened.
    """
    for name, said in (("loss", "loss"), ("grad_norm", "gradients' norm")):
        value = float(metrics[name])
        if not math.isfinite(value):
            raise Diverged(
                f"the {said} is {value} at step {step} (stage {stage.index + 1}, learning rate "
                f"{float(metrics['learning_rate']):.4g}); lower the learning rate or set optimizer.clip_norm",
                step - 1 if name == "loss" else None,
            )


def check_state(state: TrainState, step: int) -> None:
    """Refuses a state that is not finite, optimiser and averages included.

    It looks on the host: a program over so many leaves takes XLA most of a minute to compile, and a save copies anyway.

    Raises:
      Diverged: naming a leaf that is not.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if not np.isfinite(np.asarray(leaf.addressable_data(0))).all():
            raise Diverged(
                f"the state after step {step} is not finite, by {jax.tree_util.keystr(path)}, and not saved; "
                "lower the learning rate or set optimizer.clip_norm"
            )


@contextlib.contextmanager
def sound(checkpoints: Checkpoints) -> Iterator[None]:
    """Deletes the checkpoint that turns out to be ruined when a run diverges, and says which are left.

    A state can be finite and lost: its loss shows it, one step later. Without that checkpoint the next start goes on
    from one whose loss was finite.
    """
    try:
        yield
    except Diverged as error:
        deleted = error.ruined is not None and checkpoints.delete(error.ruined)
        gone = f"; the checkpoint of step {error.ruined}, which gave it, is deleted" if deleted else ""
        left = ", ".join(map(str, checkpoints.steps)) or "none"
        raise Diverged(f"{error}{gone}; checkpoints of steps: {left}", error.ruined) from None
