"""What a training step of a candidate costs: timed on this machine, or estimated for a TPU that need not be present."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax

from effnetv2_jax.analysis.benchmarks.timed_step import timed_step
from effnetv2_jax.analysis.plan import planned_experiment
from effnetv2_jax.analysis.program_cost import CACHE
from effnetv2_jax.analysis.row_sum import RowSum
from effnetv2_jax.analysis.topology import parse_topology
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.search.results import Result
from effnetv2_jax.search.settings import SearchSettings
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.devices.sharding import check_batch_size

Price = Callable[[ModelSpec], float]
"""Network → seconds of a training step."""


def compare_with_whole_programs(settings: SearchSettings, results: Sequence[Result], cache: str = CACHE) -> list[float]:
    """Returns how much the price of each network is of the compiler's estimate for the whole program, as a ratio.

    It compiles each program, which takes minutes. The search must have a topology.
    """
    run = run_of(settings)
    rows = RowSum(run.config, run.image_size, parse_topology(settings.topology), cache)
    return [each.step_seconds / rows.whole_seconds(each.network()) for each in results]


class CandidateRun(NamedTuple):
    """What the runs of all candidates have in common.

    Attributes:
      config: their config, with the network that the search was started with.
      image_size: side of the images of the last stage in pixels.
      num_classes: classes of the data.
      steps: number of steps.
    """

    config: TrainConfig
    image_size: int
    num_classes: int
    steps: int


def run_of(settings: SearchSettings) -> CandidateRun:
    """Returns what the runs of all candidates have in common.

    Raises:
      ValueError: for a config that cannot run.
      FileNotFoundError: if the data does not exist.
    """
    config = settings.train_config()
    experiment = planned_experiment(with_network(config, settings.base), jax.device_count())
    image_size, classes = experiment.stages[-1].image_size, experiment.dataset_info.num_classes
    return CandidateRun(config, image_size, classes, experiment.total_steps)


def with_network(config: TrainConfig, spec: str) -> TrainConfig:
    """Returns the same run with another network, given as the text of a spec."""
    return dataclasses.replace(config, model=config.model.with_spec(spec))


def make_price(settings: SearchSettings, config: TrainConfig, image_size: int, cache: str = CACHE) -> Price:
    """Returns the price of a search: the step of the run that trains the candidates, at an image size.

    Raises:
      ValueError: for an unknown TPU, or one whose devices the batch does not divide over.
    """
    if not settings.topology:
        return lambda spec: timed_step(config, spec, image_size)
    topology = parse_topology(settings.topology)
    check_batch_size("batch_size", config.batch_size, topology.devices, 1)
    return RowSum(config, image_size, topology, cache).seconds
