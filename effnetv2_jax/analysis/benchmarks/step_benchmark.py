"""Speed of a config on this machine: the input pipeline alone, the training step alone, and which of them limits."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from effnetv2_jax.analysis.benchmarks.input_benchmark import Comparison, Rate, compare, generated_jpegs, measured_rate
from effnetv2_jax.analysis.topology import Topology
from effnetv2_jax.data.pipeline import train_batches
from effnetv2_jax.model.initializers import init_variables
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.memory import compile_within, device_memory, smallest_fitting
from effnetv2_jax.train.devices.throughput import training_flops
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.programs import train_source
from effnetv2_jax.train.recipe.progressive import Stage


@dataclasses.dataclass(frozen=True)
class StepSpeed:
    """The training step of a stage on the devices present.

    Attributes:
      microbatches: that a step goes through in turn, as in training.
      compile_seconds: lowering and compiling.
      step_seconds: median of the steps timed.
      images_per_second: of all devices.
    """

    microbatches: int
    compile_seconds: float
    step_seconds: float
    images_per_second: float


def data_set_rate(experiment: Experiment, stage: Stage, count: int) -> Rate:
    """Times this host's input pipeline on the config's data set, for about `count` images."""
    config = experiment.config
    batch_size = config.batch_size // jax.process_count()
    batches = train_batches(
        config.data,
        image_size=stage.image_size,
        magnitude=stage.magnitude,
        batch_size=batch_size,
        start_step=stage.first_step,
        seed=config.seed,
        host_index=jax.process_index(),
        host_count=jax.process_count(),
    )
    next(batches)  # the first one fills buffers and builds the pipeline
    return measured_rate(batches, count, batch_size)


def generated_comparison(experiment: Experiment, stage: Stage, threads: int, count: int) -> Comparison:
    """Times our operations and the official way in turn, on generated JPEGs, at a stage's size and magnitude.

    Raises:
      ValueError: for a config of which there is no official way.
    """
    return compare(
        generated_jpegs(),
        experiment.config.data,
        image_size=stage.image_size,
        magnitude=stage.magnitude,
        threads=threads,
        count=count,
    )


def step_speed(experiment: Experiment, stage: Stage, steps: int) -> StepSpeed:
    """Compiles a stage's training step for the devices present and times `steps` of it on made-up images.

    Raises:
      DeviceMemoryError: if it fits in none of the config's numbers of microbatches.
    """
    mesh = sharding.make_mesh()
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    batch_size = experiment.config.batch_size
    state = jax.device_put(experiment.initial_state(init_variables(experiment.model, 0)), whole)
    batch = jax.device_put(_made_up(experiment, batch_size, stage.image_size), divided)
    available = device_memory(experiment.config.device_memory_gib)
    start = time.perf_counter()
    parts, program = smallest_fitting(
        experiment.accumulation,
        lambda parts: compile_within(
            train_source(experiment, stage, mesh, parts).jitted().lower(state, batch), available
        ),
    )
    compiled = time.perf_counter()
    seconds = []
    for _ in range(steps + 1):  # the first one warms up
        begun = time.perf_counter()
        state, metrics = program(state, batch)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - begun)
    median = float(np.median(seconds[1:]))
    return StepSpeed(parts, compiled - start, median, batch_size / median)


def needed_images_per_second(experiment: Experiment, stage: Stage, topology: Topology, of_peak: float) -> float:
    """Returns the images a second that a TPU slice takes at a stage if it reaches a share of its peak."""
    flops = training_flops(experiment.spec, stage.image_size, experiment.facts.num_classes)
    return of_peak * topology.chips * topology.chip.peak_flops / flops


def _made_up(experiment: Experiment, batch_size: int, image_size: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = experiment.abstract_batch(batch_size, image_size)
    made = {"image": rng.integers(0, 256, shapes["image"].shape, np.uint8)}
    return made | {"label": np.ones(shapes["label"].shape, shapes["label"].dtype)}
