"""One process of an ablation, or several that have joined: it trains the runs that are left."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax

from effnetv2_jax.ablation.folder import AblationFolder
from effnetv2_jax.ablation.outcome import is_finished, record_failure
from effnetv2_jax.ablation.runs import Run
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.devices.memory import DeviceMemoryError
from effnetv2_jax.train.run.divergence import Diverged
from effnetv2_jax.train.run.processes import number_of_first, share_first_error
from effnetv2_jax.train.run_folder.lease import FolderInUse

_WAIT_SECONDS = 10.0
_ALL_DONE, _ALL_TAKEN = -1, -2

Train = Callable[[TrainConfig, str], Any]
"""Trains a run in a folder, or resumes it."""


def train_runs(
    folder: AblationFolder, runs: Sequence[Run], train: Train, report: Callable[[str], None] = lambda _: None
) -> None:
    """Trains every run that is not finished, and returns when all are.

    A run that diverges or does not fit the memory is recorded as such, and the next one is trained. Other processes may
    do the same with the same folder: each leaves out the runs that another one trains, and takes
    them over once that process is gone. Processes that have joined each other train each run together.

    Args:
      folder: the folder of the ablation.
      runs: its runs.
      train: trains a run; it must raise `FolderInUse` if another process trains it.
      report: called with a line of text about each run.

    Raises:
      FolderInUse: if these processes have joined each other, and another one trains a run.
    """
    taken: set[int] = set()  # by other processes, since the last training here
    told: set[int] = set()
    while (number := number_of_first(_next(folder, runs, taken))) != _ALL_DONE:
        if number == _ALL_TAKEN:
            taken.clear()
            time.sleep(_WAIT_SECONDS)
            continue
        run = runs[number]
        if number not in told:
            report(f"run {number + 1} of {len(runs)}: {run.label}")
        try:
            train(run.config, str(folder.run(run.folder)))
        except FolderInUse:
            if jax.process_count() > 1:
                raise
            if number not in told:
                report("another process trains it")
            taken.add(number)
            told.add(number)
        except (Diverged, DeviceMemoryError) as error:
            report(f"failed: {error}")
            share_first_error(functools.partial(record_failure, folder.run(run.folder), error))
        else:
            taken.clear()
        finally:
            jax.clear_caches()  # each run has programs of its own


def _next(folder: AblationFolder, runs: Sequence[Run], taken: Collection[int]) -> int:
    """Returns the number of the next run to train, `_ALL_DONE`, or `_ALL_TAKEN` if other processes train the rest."""
    left = [number for number, run in enumerate(runs) if not is_finished(folder.run(run.folder))]
    free = [number for number in left if number not in taken]
    return free[0] if free else _ALL_TAKEN if left else _ALL_DONE
