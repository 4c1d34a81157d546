"""What a run starts from: nothing, or the newest of its checkpoints that is sound."""

from __future__ import annotations

import dataclasses
from typing import Any

from effnetv2_jax.train.checkpoint.checkpoints import Checkpoints
from effnetv2_jax.train.checkpoint.storage import check_free_space, state_bytes
from effnetv2_jax.train.run import processes

_NEW_RUN = -1


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes:
      step: number of steps done.
      state: the saved state as host arrays; None for a new run.
      warnings: what was wrong with newer checkpoints.
    """

    step: int = 0
    state: Any = None
    warnings: tuple[str, ...] = ()

    @property
    def resumes(self) -> bool:
        """Whether there is a saved state."""
        return self.state is not None


def find_start(checkpoints: Checkpoints, abstract: Any, keep: int) -> Start:
    """Finds what all processes of a run start from, once they all have claimed its folder.

    The first process reads checkpoints from the newest to the oldest until one is sound, and sets the damaged ones
    aside. The others then read the same one.

    Args:
      checkpoints: the run's checkpoints.
      abstract: names, shapes and dtypes of its state.
      keep: number of latest checkpoints that the run keeps.

    Raises:
      DamagedCheckpointError: if there are checkpoints, and none is sound; nothing is changed then.
      OSError: if the storage fails, or has no room for the run.
    """
    found = processes.share_first_error(lambda: _find(checkpoints, abstract, keep))
    step = processes.number_of_first(found.step if found and found.resumes else _NEW_RUN)
    if found:
        return found
    return Start() if step == _NEW_RUN else Start(step, checkpoints.restore(abstract, step))


def _find(checkpoints: Checkpoints, abstract: Any, keep: int) -> Start:
    check_free_space(checkpoints.folder, state_bytes(abstract), keep, checkpoints.steps)
    if not checkpoints.steps:
        return Start()
    step, state, damaged = checkpoints.newest_sound(abstract)
    warnings = []
    for error in damaged:
        aside = checkpoints.set_aside(int(error.path.name))
        warnings.append(f"{error}; it was moved to {aside}, and the run goes on from step {step}")
    return Start(step, state, tuple(warnings))
