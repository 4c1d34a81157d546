"""The properties of a run that its reports show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from effnetv2_jax.data.config import DatasetInfo
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.step import Recipe


@dataclasses.dataclass(frozen=True)
class RunDescription:
    """What the reports of a run show besides its results.

    Attributes:
      recipe: the model, and how a batch becomes an update.
      stages: the stages, in order.
      dataset: name of the data set.
      dataset_info: its classes and sizes.
      augmentation: name of the augmentation.
      training_images: a sentence on how training images are cropped, mirrored and augmented.
      batch_size: images in a step, on all devices together.
      steps_per_epoch: steps in one pass over the training split; not always a whole number.
      eval_size: side of the evaluation images in pixels.
      reported_weights: `raw` or `averaged`: the weights whose accuracy chooses the best checkpoint.
      tracker: the tracker that also gets the metrics, `wandb` or `trackio`; "" for none.
      tracker_project: the project in which it shows the run.
      config: the configuration's fields by dotted name, for the tracker.
    """

    recipe: Recipe
    stages: tuple[Stage, ...]
    dataset: str
    dataset_info: DatasetInfo
    augmentation: str
    training_images: str
    batch_size: int
    steps_per_epoch: float
    eval_size: int
    reported_weights: str
    tracker: str
    tracker_project: str
    config: Mapping[str, Any]

    @property
    def spec(self) -> ModelSpec:
        """The network's architecture."""
        return self.recipe.model.spec

    @property
    def total_steps(self) -> int:
        """Number of steps in the whole run."""
        return self.stages[-1].end_step

    @property
    def epochs(self) -> float:
        """Number of epochs in the whole run."""
        return self.total_steps / self.steps_per_epoch
