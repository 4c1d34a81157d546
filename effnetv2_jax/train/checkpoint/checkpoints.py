"""The checkpoints of a run, by step: which there are, and reading them with proof that they are as they were saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from effnetv2_jax.model.variables import Variables
from effnetv2_jax.paths import absolute
from effnetv2_jax.train.checkpoint.arrays import Arrays, description, like_tree, named_leaves
from effnetv2_jax.train.checkpoint.orbax_folder import (
    DamagedCheckpointError,
    Record,
    is_committed,
    read_arrays,
    read_record,
)

CHECKPOINTS = "checkpoints"
"""The folder in a run folder that contains one folder for each checkpoint, named by its step."""

DAMAGED = "damaged"
"""The folder in a run folder for damaged checkpoints that a run has set aside."""

_AVERAGED = "ema_"  # prefix of the averaged weights' names in a state
_WEIGHTS = ("params", "batch_stats")


class Checkpoints:
    """The checkpoints in a folder. Reading them is safe while a run writes."""

    def __init__(self, folder: epath.Path) -> None:
        self.folder = folder

    @property
    def steps(self) -> list[int]:
        """The steps of the folders that checkpoints are saved in, ascending. The folders may be damaged."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if _is_step(path.name) and is_committed(path))

    def path(self, step: int | None = None) -> epath.Path:
        """Returns the folder of the checkpoint of a step, or of the latest one.

        Raises:
          FileNotFoundError: if there is none.
        """
        steps = self.steps
        if not steps or (step is not None and step not in steps):
            wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"{wanted} in {self.folder}; saved steps: {_listed(steps)}")
        return self.folder / str(steps[-1] if step is None else step)

    def verify(self, step: int | None = None) -> Record:
        """Reads a step's checkpoint whole, and returns its record; see `read`."""
        return self.read(step).record

    def read(self, step: int | None = None) -> SavedState:
        """Reads a step's checkpoint whole, or the latest one, and checks each array against its digest.

        Raises:
          FileNotFoundError: if there is no such checkpoint.
          DamagedCheckpointError: if it is not what was saved.
          OSError: if the storage fails.
        """
        path = self.path(step)
        record = _record(path)
        return SavedState(path, record, read_arrays(path, record))

    def restore(self, abstract: Any, step: int | None = None) -> Any:
        """Returns the state saved at a step, or the latest one, as host arrays in the structure of `abstract`.

        Raises:
          FileNotFoundError: if there is no such checkpoint.
          DamagedCheckpointError: if it is not what was saved, or the names, shapes or dtypes of its arrays differ from
            those of `abstract`.
          OSError: if the storage fails.
        """
        path = self.path(step)
        record = _record(path)
        _check_same(path, record.arrays, abstract)
        return like_tree(abstract, read_arrays(path, record))

    def read_weights(self, step: int | None, *, moving_average: bool) -> tuple[bool, dict[str, np.ndarray]]:
        """Reads the weights of one checkpoint into host memory, without the step and the optimiser's state.

        Args:
          step: one of `steps`; None for the latest.
          moving_average: whether to read the averaged weights; a run without averages gives its raw ones.

        Returns:
          Whether averages were read, and each array by its name, such as `params/stem_conv/kernel`.

        Raises:
          DamagedCheckpointError: if the checkpoint is not what was saved.
          OSError: if the storage fails.
        """
        path = self.path(step)
        record = _record(path)
        averaged = moving_average and _has_averages(record)
        prefix = _AVERAGED if averaged else ""
        arrays = read_arrays(path, record, tuple(prefix + name for name in _WEIGHTS))
        return averaged, {name.removeprefix(prefix): array for name, array in arrays.items()}

    def newest_sound(self, abstract: Any) -> tuple[int, Any, list[DamagedCheckpointError]]:
        """Restores the newest checkpoint that is sound.

        Returns:
          Its step, its state as host arrays, and one error for each newer checkpoint that is damaged.

        Raises:
          FileNotFoundError: if there is no checkpoint.
          DamagedCheckpointError: if none is sound.
          OSError: if the storage fails.
        """
        damaged: list[DamagedCheckpointError] = []
        for step in reversed(self.steps):
            try:
                return step, self.restore(abstract, step), damaged
            except DamagedCheckpointError as error:
                damaged.append(error)
        if not damaged:
            raise FileNotFoundError(f"no checkpoint in {self.folder}")
        raise DamagedCheckpointError(
            self.folder, f"none of its checkpoints is sound; the newest: {damaged[0]}. Nothing was changed"
        )

    def older(self, step: int | None) -> list[int]:
        """Returns the steps before a step, or before the latest one."""
        steps = self.steps
        return steps[:-1] if step is None else [other for other in steps if other < step]

    def set_aside(self, step: int) -> epath.Path:
        """Moves a damaged checkpoint out of the way, and returns its new path."""
        target = self.folder.parent / DAMAGED / str(step)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmtree()
        return (self.folder / str(step)).rename(target)


@dataclasses.dataclass(frozen=True)
class SavedState:
    """What a checkpoint contains, as it was saved.

    Attributes:
      path: the folder of the checkpoint.
      record: what its arrays must be.
      arrays: its arrays by name.
    """

    path: epath.Path
    record: Record
    arrays: Arrays

    def weights(self, shapes: Variables) -> dict[str, Any]:
        """Returns the variables `raw` as trained and, if the run keeps averages, `averaged`.

        Args:
          shapes: shapes of the network's variables.

        Raises:
          ValueError: if the checkpoint belongs to another network.
        """
        prefixes = {"raw": ""} | ({"averaged": _AVERAGED} if _has_averages(self.record) else {})
        wanted = {prefix + name: shapes[name] for prefix in prefixes.values() for name in _WEIGHTS}
        saved = {name: text for name, text in self.record.arrays.items() if _part(name) in wanted}
        _check_same(self.path, saved, wanted)
        found = like_tree(wanted, self.arrays)
        return {key: {name: found[prefix + name] for name in _WEIGHTS} for key, prefix in prefixes.items()}


def find_checkpoints(path: epath.PathLike) -> tuple[Checkpoints, int | None]:
    """Returns the checkpoints of a run, and the step of the one that a path names.

    Args:
      path: a run folder or its folder of checkpoints, which name no step, or the folder of one checkpoint; a path or
        `gs://…`.

    Raises:
      FileNotFoundError: if `path` does not exist or contains no checkpoint.
    """
    folder = absolute(path)
    if not folder.exists():
        raise FileNotFoundError(f"{folder} does not exist")
    if _is_step(folder.name):
        return Checkpoints(folder.parent), int(folder.name)
    checkpoints = Checkpoints(folder / CHECKPOINTS if (folder / CHECKPOINTS).is_dir() else folder)
    if not checkpoints.steps:
        raise FileNotFoundError(f"{folder} contains no checkpoint of a run")
    return checkpoints, None


def _record(path: epath.Path) -> Record:
    """Returns the record of a checkpoint, without reading its arrays.

    Raises:
      DamagedCheckpointError: if its record is damaged, or that of another step.
      OSError: if the storage fails.
    """
    record = read_record(path)
    if record.step != int(path.name):
        raise DamagedCheckpointError(path, f"it is the checkpoint of step {record.step}")
    return record


def _has_averages(record: Record) -> bool:
    return any(_part(name) == _AVERAGED + "params" for name in record.arrays)


def _part(name: str) -> str:
    """Returns the part of the state that an array belongs to, such as `params`."""
    return name.split("/")[0]


def _check_same(path: epath.Path, saved: Mapping[str, str], abstract: Any) -> None:
    """Checks that a checkpoint has the arrays of an abstract tree.

    Raises:
      DamagedCheckpointError: if it does not; the message names the first array that differs.
    """
    expected = {name: description(leaf) for name, leaf in named_leaves(abstract).items()}
    if saved != expected:
        name = min(name for name in saved.keys() | expected.keys() if saved.get(name) != expected.get(name))
        raise DamagedCheckpointError(
            path,
            f"it belongs to another network or recipe than the config's: {name} is {saved.get(name, 'missing')} in "
            f"the checkpoint and {expected.get(name, 'missing')} in the config's",
        )


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps)) or "none"
