"""The training step of any network, timed on the devices of this machine."""

from __future__ import annotations

import jax

from effnetv2_jax.analysis.benchmarks.step_benchmark import step_speed
from effnetv2_jax.analysis.plan import planned_experiment
from effnetv2_jax.analysis.single_step import config_of_step
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.config import TrainConfig

_STEPS = 5


def timed_step(config: TrainConfig, spec: ModelSpec, image_size: int, steps: int = _STEPS) -> float:
    """Returns the median seconds of a training step with random images.

    Args:
      config: the run whose batch, dtype, optimiser and classes count; its network does not.
      spec: the network.
      image_size: side of the training images in pixels.
      steps: number of steps to time.

    Raises:
      DeviceMemoryError: if the step does not fit the memory of the devices.
    """
    experiment = planned_experiment(config_of_step(config, spec, image_size), jax.device_count())
    return step_speed(experiment, experiment.stages[0], steps).step_seconds
