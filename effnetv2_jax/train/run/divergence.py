"""Divergence: numbers that are no longer finite, and the checkpoints that have become useless."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from effnetv2_jax.train.checkpoint.arrays import Arrays
from effnetv2_jax.train.checkpoint.checkpoints import Checkpoints
from effnetv2_jax.train.checkpoint.saver import Saver
from effnetv2_jax.train.recipe.progressive import Stage, stage_at

REMEDY = "lower the learning rate or set optimizer.clip_norm"
"""What to do about a run that has diverged."""


class Diverged(FloatingPointError):
    """A run has numbers that are not finite.

    Attributes:
      ruined_step: the step after which the state was already useless, as it is after all later ones; None if unknown.
    """

    def __init__(self, text: str, ruined_step: int | None = None) -> None:
        super().__init__(text)
        self.ruined_step = ruined_step


def check_metrics(metrics: Mapping[str, Any], step: int, stage: Stage, params: Any) -> None:
    """Checks that the loss and the gradients of a step are finite.

    A loss that is not finite shows that the state before this step was already useless.

    Args:
      metrics: metrics of the step.
      step: number of steps done.
      stage: the stage of the step.
      params: the parameters after the step; their norm is computed only for the message.

    Raises:
      Diverged: if one of them is not; the message says which, and where the run was.
    """
    loss, grad_norm = float(metrics["loss"]), float(metrics["grad_norm"])
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    raise Diverged(
        f"{what_is_bad(metrics)} at step {step} ({where(metrics, stage, params)}); {REMEDY}, or skip such steps with "
        "optimizer.max_bad_steps",
        None if math.isfinite(loss) else step - 1,
    )


def what_is_bad(metrics: Mapping[str, Any]) -> str:
    """Says which of a step's numbers is not finite."""
    loss = float(metrics["loss"])
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    return f"the norm of the gradients is {float(metrics['grad_norm'])}"


def where(metrics: Mapping[str, Any], stage: Stage, params: Any) -> str:
    """Says where a run is: its stage, learning rate, loss, and the norms of the gradients and the parameters."""
    norm = _norm(leaf.addressable_data(0) for leaf in jax.tree.leaves(params))
    rate, loss, grad_norm = (float(metrics[name]) for name in ("learning_rate", "loss", "grad_norm"))
    return (
        f"stage {stage.index + 1}, learning rate {rate:.4g}, loss {loss:.4g}, norm of the gradients {grad_norm:.4g}, "
        f"norm of the parameters after the step {norm:.4g}"
    )


def _norm(arrays: Iterable[Any]) -> float:
    doubles = (np.asarray(array, np.float64) for array in arrays)
    return math.sqrt(sum(float(np.vdot(array, array)) for array in doubles))


def check_finite(arrays: Arrays, step: int, *, stages: Sequence[Stage], learning_rate: Callable[[int], Any]) -> None:
    """Checks that the arrays of a state are finite, including the optimiser's state and the averages.

    The check runs on the host, at several GB a second. XLA would take most of a minute to compile a program over so
    many arrays, and saving copies them to the host anyway.

    Args:
      arrays: each array of the state by its path.
      step: the step after which the state was copied.
      stages: the stages of the run, for the message.
      learning_rate: step → learning rate, for the message.

    Raises:
      Diverged: if they are not; the message names the first array, counts its numbers that are not finite, and says
        where the run was.
    """
    for name, array in arrays.items():
        finite = np.isfinite(array)
        if not finite.all():
            last = max(step - 1, 0)  # the step that gave this state is the one before `step`, counted from 0
            norm = _norm(value for key, value in arrays.items() if key.startswith("params/"))
            raise Diverged(
                f"{name} is not finite after step {step} ({finite.size - np.count_nonzero(finite):,} of its "
                f"{finite.size:,} numbers; stage {stage_at(stages, last).index + 1}, learning rate "
                f"{float(learning_rate(last)):.4g}, norm of the parameters {norm:.4g}), so the state is not saved; "
                f"{REMEDY}"
            )


@contextlib.contextmanager
def ruined_checkpoint_deleted(saver: Saver, checkpoints: Checkpoints) -> Iterator[None]:
    """A context that deletes the checkpoints of useless states when a run diverges within it.

    A state can be finite and still useless; the loss of the next step shows it. Without those checkpoints, the run
    resumes from an earlier one, whose loss was finite.

    Raises:
      Diverged: the same error, whose message then also names the checkpoints that are left.
    """
    try:
        yield
    except Diverged as caught:
        error = _first_cause(saver, caught)
        first = error.ruined_step
        useless = [] if first is None else [step for step in checkpoints.steps if step >= first]
        deleted = [str(step) for step in useless if saver.delete(step)]
        noun, be = ("checkpoint of step", "is") if len(deleted) == 1 else ("checkpoints of steps", "are")
        gone = f"; the {noun} {', '.join(deleted)} caused it and {be} deleted" if deleted else ""
        left = ", ".join(map(str, checkpoints.steps)) or "none"
        raise Diverged(f"{error}{gone}; checkpoints of steps: {left}", first) from None


def _first_cause(saver: Saver, error: Diverged) -> Diverged:
    """Returns the error of a save in progress if it has one, since that state came before the step that diverged."""
    try:
        saver.wait()
    except Diverged as earlier:
        return earlier
    except OSError:  # the save has failed for another reason, and the run ends with the divergence
        pass
    return error
