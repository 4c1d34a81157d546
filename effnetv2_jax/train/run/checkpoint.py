"""Checkpoints of a run: written in the background, the latest ones and the best kept.

The only module that knows Orbax.
"""

import dataclasses
from typing import Any, Self

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from effnetv2_jax.train.recipe.state import TrainState, Variables

FOLDER = "checkpoints"
METRIC = "top1"

_STATE = "state"
_WEIGHTS = ("params", "batch_stats", "ema_params", "ema_batch_stats")


@dataclasses.dataclass
class CheckpointConfig:
    """How often the state is saved, and how many of the latest checkpoints stay besides the best one."""

    every_epochs: float = 1.0
    keep: int = 3


def run_folder(workdir: str) -> epath.Path:
    """Returns a run's folder, absolute as Orbax wants it; `gs://…` already is."""
    return epath.Path(workdir) if "://" in workdir else epath.Path(workdir).expanduser().resolve()


class Checkpoints:
    """The checkpoints under a folder, one a step; a context that waits for what is being written.

    One process, or one run of several, may write: it says how many of the latest to `keep`, and begins by removing what
    an earlier one left half written. Readers keep nothing and remove nothing, so they may look while a run writes.
    """

    def __init__(self, folder: epath.Path, keep: int | None = None) -> None:
        policies = ocp.training.preservation_policies
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics[METRIC], n=1, keep_checkpoints_without_metrics=False
        )
        self._checkpointer = ocp.training.Checkpointer(
            folder,
            cleanup_tmp_directories=keep is not None,
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
        )
        self._pending: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """The steps saved, in order."""
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    @property
    def latest(self) -> int:
        """The last step saved, 0 for none."""
        return max(self.steps, default=0)

    def save(self, step: int, state: TrainState, top1: float | None = None) -> None:
        """Starts writing the state after `step` steps; a step that is there already stays as it is.

        Raises:
          OSError, ValueError: what the write before this one failed with.
        """
        self.wait()
        if step in self.steps:
            return
        metrics = None if top1 is None else {METRIC: top1}
        self._pending = self._checkpointer.save_checkpointables_async(step, {_STATE: state}, metrics=metrics)

    def delete(self, step: int) -> bool:
        """Deletes the checkpoint of a step, and tells whether it was there."""
        self.wait()
        return step in self.steps and self._checkpointer.delete(step)

    def wait(self) -> None:
        """Waits until the last save is committed, and raises what it failed with."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def restore(self, abstract: TrainState, step: int | None = None) -> TrainState:
        """Returns the state saved at `step` (None: the latest) in the shapes and shardings of `abstract`.

        Raises:
          FileNotFoundError: if there is none.
          KeyError: Orbax's, if it does not have the leaves and shapes of `abstract`.
        """
        step = self._known(step)
        return self._checkpointer.load_checkpointables(step, {_STATE: abstract})[_STATE]

    def restore_weights(self, shapes: Variables, step: int | None = None) -> TrainState:
        """Returns the weights saved at `step` (None: the latest) without step and optimiser, which are not read.

        Args:
          shapes: of the network's variables, with their shardings.
          step: one of `steps`.

        Raises:
          FileNotFoundError: if there is none.
          ValueError: if it is of another network.
        """
        path = self._checkpointer.directory / str(self._known(step))
        saved = ocp.checkpointables_metadata(path).metadata[_STATE]
        wanted = {name: shapes[name.removeprefix("ema_")] for name in _WEIGHTS if saved[name]}
        found, expected = (_shapes({name: tree[name] for name in wanted}) for tree in (saved, wanted))
        if found != expected:
            leaf = min(leaf for leaf in found | expected if found.get(leaf) != expected.get(leaf))
            raise ValueError(
                f"{path} is of another network than the config's: {leaf} has the shape {found.get(leaf)} there, "
                f"{expected.get(leaf)} here"
            )
        context = ocp.Context()
        context.pytree_options.loading.partial_load = True
        with context:
            state = ocp.load_checkpointables(path, {_STATE: wanted})[_STATE]
        return TrainState(step=None, opt_state=None, **{name: state.get(name) for name in _WEIGHTS})

    def _known(self, step: int | None) -> int:
        """Returns the step, or the latest.

        Raises:
          FileNotFoundError: if it is not there.
        """
        if not self.steps or (step is not None and step not in self.steps):
            known = ", ".join(map(str, self.steps)) or "none"
            raise FileNotFoundError(f"no checkpoint of step {step} in {self._checkpointer.directory}; there: {known}")
        return self.latest if step is None else step


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a tree's leaves by their paths."""
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
