"""Saves the state of a run in the background, tries again what fails, and removes old checkpoints."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from etils import epath

from effnetv2_jax.paths import in_bucket
from effnetv2_jax.train.checkpoint.arrays import Arrays, like_tree, snapshot
from effnetv2_jax.train.checkpoint.checkpoints import Checkpoints
from effnetv2_jax.train.checkpoint.config import CheckpointConfig
from effnetv2_jax.train.checkpoint.orbax_folder import delete, remove_unfinished, write

_FIRST_PAUSE_SECONDS = 2.0


class Saver:
    """Writes the checkpoints of a run, one at a time, in a thread. Only one saver may write into a folder.

    It is a context, which finishes a save in progress when it is left. At its start, it removes what a killed process
    has left unfinished. Every process of a run has one, but only that of the first is active: those of the others do
    nothing.

    Attributes:
      scores: top-1 by step; the checkpoint with the highest one is kept.
      written_step: step of the newest checkpoint that this saver has written; 0 before the first.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        config: CheckpointConfig,
        *,
        check: Callable[[Arrays, int], None],
        warn: Callable[[str], None],
        active: bool = True,
    ) -> None:
        """Prepares the folder.

        Args:
          checkpoints: the folder to write into.
          config: how many to keep, and how often to try.
          check: called in the thread with the arrays to save and their step; raises an error if they must not be saved.
          warn: shows a warning.
          active: whether to write at all.
        """
        self.scores: dict[int, float] = {}
        self.written_step = 0
        self._checkpoints = checkpoints
        self._config = config
        self._check = check
        self._warn = warn
        self._active = active
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "save")
        self._leaving = threading.Event()
        self._pending: concurrent.futures.Future[None] | None = None
        self._arrays: Arrays | None = None  # the last snapshot
        if active:
            checkpoints.folder.mkdir(parents=True, exist_ok=True)
            remove_unfinished(checkpoints.folder)
            self._disk = _disk(checkpoints.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._leaving.set()  # a save in progress is finished, but a failed one is not tried again
        try:
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown(wait=True)

    def save(self, step: int, state: Any) -> None:
        """Copies the state after `step` steps into host memory, and starts to write the copy in the background.

        Raises:
          OSError: if the save before this one has failed in every try.
          Exception: what `check` has raised for the save before this one.
        """
        self.wait()
        if not self._active:
            return
        arrays = self._arrays = snapshot(state, reuse=self._arrays)
        self._pending = self._thread.submit(self._write, step, like_tree(state, arrays), arrays)

    def poll(self) -> None:
        """Raises the error of the last save if it has failed by now."""
        if self._pending and self._pending.done():
            self.wait()

    def wait(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Waits until the last save is written, and raises its error if it has failed; calls `waiting` every second."""
        pending, self._pending = self._pending, None
        while pending and not pending.done():
            waiting()
            concurrent.futures.wait([pending], timeout=1.0)
        if pending:
            pending.result()

    def delete(self, step: int) -> bool:
        """Deletes the checkpoint of a step, also one that is being written, and returns whether it existed."""
        with contextlib.suppress(Exception):  # a save that has failed leaves nothing to delete
            self.wait()
        if not self._active or step not in self._checkpoints.steps:
            return False
        delete(self._checkpoints.path(step))
        return True

    def _write(self, step: int, tree: Any, arrays: Arrays) -> None:
        self._check(arrays, step)
        path = self._checkpoints.folder / str(step)
        for tries in range(1, self._config.tries + 1):
            try:
                self._check_disk()
                if path.exists():  # a save at this step that an earlier process did not finish
                    delete(path)
                write(path, step, tree)
                _synchronize(path)
                self.written_step = step
                break
            except OSError as error:
                if tries == self._config.tries or self._leaving.is_set():
                    raise OSError(
                        f"the checkpoint of step {step} could not be saved in {tries} "
                        f"{'try' if tries == 1 else 'tries'}: {error}"
                    ) from error
                self._warn(
                    f"the checkpoint of step {step} could not be saved (try {tries} of {self._config.tries}; training "
                    f"goes on): {error}"
                )
                self._leaving.wait(_FIRST_PAUSE_SECONDS * 2 ** (tries - 1) * random.uniform(0.5, 1.5))
        self._delete_old()

    def _check_disk(self) -> None:
        """Checks that the folder still lies on its disk: Orbax would make it anew where a disk was unmounted.

        Raises:
          OSError: if it does not, or is gone.
        """
        folder = self._checkpoints.folder
        if _disk(folder) != self._disk:
            raise OSError(f"{folder} is on another disk than at the start of the run, so its own was unmounted")

    def _delete_old(self) -> None:
        steps = self._checkpoints.steps
        kept = set(steps[-self._config.keep :])
        rated = [step for step in steps if step in self.scores]
        if rated:
            kept.add(max(rated, key=lambda step: (self.scores[step], step)))
        for step in steps:
            if step not in kept:
                delete(self._checkpoints.folder / str(step))


def _disk(folder: epath.Path) -> int:
    """Returns the number of the disk that a folder lies on, or 0 for one in a bucket.

    Raises:
      OSError: if the folder does not exist.
    """
    return 0 if in_bucket(folder) else Path(folder).stat().st_dev


def _synchronize(path: epath.Path) -> None:
    """Makes the operating system write a local folder to the disk, and the entry of the folder itself."""
    if in_bucket(path):
        return
    folder = Path(path)
    for each in (*folder.rglob("*"), folder, folder.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
