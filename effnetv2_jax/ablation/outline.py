"""The outline of a run: what the tables need to know of it, and what follows from it for a run with other fields."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from effnetv2_jax.analysis.plan import planned_experiment
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.config import TrainConfig, flatten, unflatten
from effnetv2_jax.train.derivation import evaluation_sizes
from effnetv2_jax.train.recipe.distillation import DistillationConfig
from effnetv2_jax.train.recipe.progressive import Stage, make_stages

Fields = Mapping[str, Any]
"""Dotted name of a field of a config → its value, as JSON stores it."""


@dataclasses.dataclass(frozen=True)
class Outline:
    """The outline of a run.

    Attributes:
      config: its config.
      spec: its network.
      stages: its stages.
      eval_size: side of its evaluation images in pixels.
      num_classes: classes of its data.
      steps_per_epoch: steps in one pass over the training split.
      devices: number of devices of all its processes.
    """

    config: TrainConfig
    spec: ModelSpec
    stages: tuple[Stage, ...]
    eval_size: int
    num_classes: int
    steps_per_epoch: float
    devices: int

    def changed(self, fields: Fields) -> Outline:
        """Returns the outline of the same run with other fields, which may not change its data and its length.

        Raises:
          ValueError: for a config that cannot run.
        """
        config = unflatten({**flatten(self.config), **fields})
        spec = config.model.spec()
        return dataclasses.replace(
            self,
            config=config,
            spec=spec,
            stages=make_stages(config.progressive, spec, self.stages[-1].end_step, self.steps_per_epoch),
            eval_size=evaluation_sizes(config, spec, self.devices)[0],
        )

    def identity(self) -> str:
        """Returns a text that is the same for two runs that train in the same way, however their fields are written."""
        written_otherwise = ("progressive.", "evaluation.image_size", "model.variant", "model.width", "model.depth")
        fields = {name: value for name, value in flatten(self.config).items() if not name.startswith(written_otherwise)}
        stages = [dataclasses.astuple(stage) for stage in self.stages]
        network = dataclasses.replace(self.spec, name="", citation="", top1=None, top1_21k=None)
        return json.dumps([fields, stages, self.eval_size, dataclasses.asdict(network)], sort_keys=True)


def make_outline(config: TrainConfig, devices: int) -> Outline:
    """Returns the outline of a run on a number of devices.

    Raises:
      ValueError: for a config that cannot run.
      FileNotFoundError: if the data does not exist.
    """
    without_teacher = dataclasses.replace(config, distillation=DistillationConfig())  # it changes nothing here
    experiment = planned_experiment(without_teacher, devices)
    return Outline(
        config=config,
        spec=experiment.spec,
        stages=experiment.stages,
        eval_size=experiment.eval_size,
        num_classes=experiment.dataset_info.num_classes,
        steps_per_epoch=experiment.steps_per_epoch,
        devices=devices,
    )
