"""One candidate: its price, its training with the real trainer, and its early end if it is hopeless."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.summary import count_parameters
from effnetv2_jax.model.variants import get_spec
from effnetv2_jax.search.folder import Task
from effnetv2_jax.search.prices import Price, with_network
from effnetv2_jax.search.results import Result
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.devices.memory import DeviceMemoryError
from effnetv2_jax.train.recipe.eval_step import Results
from effnetv2_jax.train.report.metrics import read_metrics
from effnetv2_jax.train.run.divergence import Diverged
from effnetv2_jax.train.run_folder.json_file import read_json, write_json
from effnetv2_jax.train.trainer import train

_PRICE, _RUN = "price.json", "run"
_NO_PRICE = 3600.0  # seconds, of a step that does not fit the memory
_LEAST_KNOWN = 5
"""Candidates that must have a reward at a step before another one is compared with them."""


class Hopeless(Exception):
    """A candidate's reward is below those of most others at the same step."""


@dataclasses.dataclass(frozen=True)
class Bar:
    """The reward that a candidate must have at each step, to be trained further.

    Attributes:
      known: the results of the candidates before it.
      percentile: the percentile of their rewards at the same step; 0 lets every candidate go on.
      first_step: the first step at which it counts.
    """

    known: Sequence[Result]
    percentile: float
    first_step: float = 0.0

    def is_below(self, result: Result) -> bool:
        """Returns whether a candidate is hopeless at any of the steps at which it was evaluated."""
        return any(self._is_below(result, step) for step, _ in result.curve if step >= self.first_step)

    def _is_below(self, result: Result, step: int) -> bool:
        rewards = [reward for each in self.known if (reward := each.reward_at(step)) is not None]
        own = result.reward_at(step)
        if not self.percentile or len(rewards) < _LEAST_KNOWN or own is None:
            return False
        return own < float(np.percentile(rewards, self.percentile))


def run_candidate(
    config: TrainConfig, task: Task, num_classes: int, price: Price, bar: Bar, *, own_process: bool = False
) -> Result:
    """Trains a network, or goes on from where a process that is gone has left it, and returns the result.

    Args:
      config: the run; its network is replaced by the task's.
      task: the network and its folder.
      num_classes: classes of the data.
      price: what a training step costs.
      bar: when to stop early.
      own_process: whether a signal may end the process, see `train`.

    Raises:
      Stopped: at SIGTERM or Ctrl-C, after saving.
      ValueError: for a config that cannot run.
      OSError: if the run cannot be saved.
    """
    spec = get_spec(task.spec)
    try:
        seconds, failed = _recorded_price(task.folder, spec, price), ""
    except DeviceMemoryError as error:
        seconds, failed = _NO_PRICE, _one_line(error)
    result = Result(task.proposal, task.spec, seconds, count_parameters(spec, num_classes), failed=failed)
    if failed:
        return result
    run, name = task.folder / _RUN, config.evaluation.weights
    # The rows that a process before this one has written, to which this one adds its own.
    curve = {row["step"]: row[f"{name}/top1"] for row in read_metrics(epath.Path(run)) if f"{name}/top1" in row}

    def so_far() -> Result:
        return dataclasses.replace(result, curve=tuple(sorted(curve.items())))

    def judge(step: int, results: Results) -> None:
        curve[step] = results[name]["top1"]
        if bar.is_below(so_far()):
            raise Hopeless

    try:
        if bar.is_below(so_far()):  # the process that is gone was killed before it could say so
            raise Hopeless
        train(with_network(config, task.spec), str(run), judge=judge, own_process=own_process)
    except Hopeless:
        result = dataclasses.replace(result, stopped=True)
    except (DeviceMemoryError, Diverged) as error:
        result = dataclasses.replace(result, failed=_one_line(error))
    finally:
        jax.clear_caches()  # each candidate has programs of its own
    shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)  # they would fill the disk
    return so_far()


def _recorded_price(folder: Path, spec: ModelSpec, price: Price) -> float:
    """Returns the price of a network, which is kept, so that a candidate that is taken over keeps its price."""
    path = epath.Path(folder / _PRICE)
    if not path.exists():
        write_json(path, {"step_seconds": price(spec)})
    seconds: Any = read_json(path, dict).get("step_seconds")
    if type(seconds) not in (int, float) or not 0 < seconds < math.inf:
        raise ValueError(f"{path} is damaged: step_seconds must be a number above 0, got {seconds!r}")
    return float(seconds)


def _one_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
