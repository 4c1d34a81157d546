"""Checkpoints of a run: saved in the background; the latest ones and the best one are kept.

This is the only module that uses Orbax.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from effnetv2_jax.model.variables import Variables
from effnetv2_jax.train.recipe.state import TrainState
from effnetv2_jax.train.run.workdir import CHECKPOINTS, run_folder

_METRIC = "top1"
_STATE = "state"
_AVERAGED = "ema_"  # prefix of the averaged weights' names in a state
_WEIGHTS = ("params", "batch_stats")


@dataclasses.dataclass
class CheckpointConfig:
    """When the state is saved.

    Attributes:
      every_epochs: epochs between two checkpoints; 0 for none. One also follows each evaluation and each stage.
      keep: number of latest checkpoints that are kept, besides the one with the best top-1.
    """

    every_epochs: float = 1.0
    keep: int = 3


class Checkpoints:
    """The checkpoints in a folder, by step. It is a context, which waits for a save in progress when it is left.

    A run that writes passes `keep`, the number of latest checkpoints to keep. It starts by removing checkpoints that an
    earlier process has left unfinished. A reader passes None and removes nothing, so it may read while a run writes.
    """

    def __init__(self, folder: epath.Path, keep: int | None = None) -> None:
        policies = ocp.training.preservation_policies
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics[_METRIC], n=1, keep_checkpoints_without_metrics=False
        )
        self._checkpointer = ocp.training.Checkpointer(
            folder,
            cleanup_tmp_directories=keep is not None,
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
        )
        self._pending: tuple[int, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
        except OSError as error:
            kind = type(error)
            raise
        finally:
            # After a failed save, closing raises the same error again, which would hide ours.
            with contextlib.suppress(*(() if kind is None else (Exception,))):
                self._checkpointer.close()

    @property
    def steps(self) -> list[int]:
        """The saved steps, in order."""
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    @property
    def latest(self) -> int:
        """The latest saved step, or 0 if there is none."""
        return max(self.steps, default=0)

    def save(self, step: int, state: TrainState, top1: float | None = None) -> None:
        """Starts to save the state after `step` steps in the background, unless that step is saved already.

        Raises:
          OSError: if the save before this one has failed.
        """
        self.wait()
        if step in self.steps:
            return
        metrics = None if top1 is None else {_METRIC: top1}
        self._pending = step, self._checkpointer.save_checkpointables_async(step, {_STATE: state}, metrics=metrics)

    def delete(self, step: int) -> bool:
        """Deletes the checkpoint of a step, and returns whether it existed."""
        self.wait()
        return step in self.steps and self._checkpointer.delete(step)

    def wait(self) -> None:
        """Waits until the last save is committed.

        Raises:
          OSError: if it has failed.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        step, response = pending
        try:
            response.result()
        except Exception as error:  # Orbax and tensorstore have no common class of errors
            raise OSError(f"the checkpoint of step {step} could not be saved: {error}") from error

    def restore(self, abstract: TrainState, step: int | None = None) -> TrainState:
        """Returns the state saved at a step, or the latest one, with the shapes and shardings of `abstract`.

        Raises:
          FileNotFoundError: if there is no such checkpoint.
          ValueError: if the names or shapes of its arrays differ from those of `abstract`.
        """
        step = self._known(step)
        try:
            return self._checkpointer.load_checkpointables(step, {_STATE: abstract})[_STATE]
        except KeyError as error:
            raise ValueError(f"the checkpoint of step {step} does not fit the run: {error}") from error

    def restore_weights(self, shapes: Variables, step: int | None = None) -> dict[str, Variables]:
        """Returns the weights saved at a step, or the latest ones, without reading the optimiser's state.

        Args:
          shapes: shapes and shardings of the network's variables.
          step: one of `steps`; None for the latest.

        Returns:
          The variables `raw` as trained and, if the run keeps averages, `averaged`.

        Raises:
          FileNotFoundError: if there is no such checkpoint.
          ValueError: if the checkpoint belongs to another network.
        """
        path = self._checkpointer.directory / str(self._known(step))
        saved = ocp.checkpointables_metadata(path).metadata[_STATE]
        prefixes = {"raw": ""} | ({"averaged": _AVERAGED} if saved.get(_AVERAGED + "params") else {})
        wanted = {prefix + name: shapes[name] for prefix in prefixes.values() for name in _WEIGHTS}
        found, expected = (_shapes({name: tree[name] for name in wanted}) for tree in (saved, wanted))
        if found != expected:
            leaf = min(leaf for leaf in found | expected if found.get(leaf) != expected.get(leaf))
            raise ValueError(
                f"{path} belongs to another network than the config's: {leaf} has the shape {found.get(leaf)} in the "
                f"checkpoint and {expected.get(leaf)} in the config's network"
            )
        state = _load_partly(path, wanted)
        return {key: {name: state[prefix + name] for name in _WEIGHTS} for key, prefix in prefixes.items()}

    def _known(self, step: int | None) -> int:
        """Returns `step`, or the latest step for None.

        Raises:
          FileNotFoundError: if it is not saved.
        """
        if not self.steps or (step is not None and step not in self.steps):
            saved = ", ".join(map(str, self.steps)) or "none"
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"{wanted} in {self._checkpointer.directory}; saved steps: {saved}")
        return self.latest if step is None else step


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a tree's leaves by their paths."""
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def newest_checkpoint(path: epath.PathLike) -> epath.Path:
    """Returns the folder of the committed checkpoint with the highest step.

    Args:
      path: a run folder, its folder of checkpoints, or the folder of one checkpoint; `gs://` paths work too.

    Raises:
      FileNotFoundError: if `path` does not exist or contains no committed checkpoint.
    """
    folder = run_folder(str(path))
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist")
    if _is_committed(folder):
        return folder
    steps = folder / CHECKPOINTS if (folder / CHECKPOINTS).is_dir() else folder
    found = [step for step in steps.iterdir() if step.name.isdigit()] if steps.is_dir() else []
    for step in sorted(found, key=lambda step: int(step.name), reverse=True):
        if _is_committed(step):
            return step
    raise FileNotFoundError(f"{folder} contains no checkpoint of a run")


def read_weights(path: epath.Path, *, moving_average: bool) -> tuple[bool, dict[str, np.ndarray]]:
    """Reads the weights of one checkpoint into host memory, without the step and the optimiser's state.

    Args:
      path: the checkpoint's folder, as `newest_checkpoint` returns it.
      moving_average: whether to read the averaged weights; a run without averages gives its raw ones.

    Returns:
      Whether averages were read, and each array by its path, such as `params/stem_conv/kernel`.
    """
    saved = ocp.checkpointables_metadata(str(path)).metadata[_STATE]
    averaged = moving_average and bool(saved.get(_AVERAGED + "params"))
    names = {_AVERAGED + name if averaged else name: name for name in _WEIGHTS}
    wanted = {name: jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), saved[name]) for name in names}
    state = _load_partly(path, wanted)
    leaves = jax.tree_util.tree_leaves_with_path({key: state[name] for name, key in names.items()})
    return averaged, {"/".join(key.key for key in keys): leaf for keys, leaf in leaves}


def _load_partly(path: epath.PathLike, wanted: Mapping[str, Any]) -> Any:
    """Returns the parts of a checkpoint's state that `wanted` names, as NumPy or JAX arrays like those in it."""
    context = ocp.Context()
    context.pytree_options.loading.partial_load = True
    with context:
        return ocp.load_checkpointables(str(path), {_STATE: wanted})[_STATE]


def _is_committed(path: epath.Path) -> bool:
    return (path / _STATE).is_dir() and (path / "_CHECKPOINT_METADATA").exists()
