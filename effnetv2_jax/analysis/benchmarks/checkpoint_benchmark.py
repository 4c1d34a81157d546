"""Times how long a checkpoint keeps a run waiting, and how long writing and restoring it take."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from etils import epath

from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train.checkpoint.checkpoints import Checkpoints
from effnetv2_jax.train.checkpoint.config import CheckpointConfig
from effnetv2_jax.train.checkpoint.saver import Saver
from effnetv2_jax.train.checkpoint.storage import state_bytes
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.run.divergence import check_finite


def checkpoint_speed(experiment: Experiment, saves: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Saves the state of a run several times into a temporary folder, and restores it.

    Returns:
      `state_bytes`, and median seconds: `blocked_seconds`, which a save keeps the loop waiting,
      `copy_seconds`, which a copy of the state on the devices takes, `save_seconds` until it is written, and
      `restore_seconds` until it is read and verified.
    """
    variables = init_variables(experiment.model, 0)
    state = jax.block_until_ready(sharding.replicate(experiment.initial_state(variables), sharding.make_mesh()))
    check = partial(check_finite, stages=experiment.stages, learning_rate=experiment.recipe.learning_rate)
    seconds: dict[str, list[float]] = {name: [] for name in ("blocked", "copy", "save", "restore")}
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(epath.Path(folder))
        with Saver(checkpoints, CheckpointConfig(keep=1), check=check, warn=report) as saver:
            for number in range(saves + 1):  # the first one is a warm-up
                report(f"timing checkpoints, {number} of {saves} done")
                start = time.perf_counter()
                jax.block_until_ready(jax.tree.map(lambda array: array.copy(), state))
                seconds["copy"].append(time.perf_counter() - start)
                start = time.perf_counter()
                saver.save(number, state)
                seconds["blocked"].append(time.perf_counter() - start)
                saver.wait()
                seconds["save"].append(time.perf_counter() - start)
                start = time.perf_counter()
                checkpoints.restore(state)
                seconds["restore"].append(time.perf_counter() - start)
    return {"state_bytes": state_bytes(state)} | {
        f"{name}_seconds": float(np.median(values[1:])) for name, values in seconds.items()
    }
