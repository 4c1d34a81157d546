"""Times a stage's training step on the devices of this machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from effnetv2_jax.model.variables import init_variables
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.compiler import BackgroundCompiler
from effnetv2_jax.train.devices.memory import device_memory
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.programs import constants_of, train_program
from effnetv2_jax.train.recipe.progressive import Stage


@dataclasses.dataclass(frozen=True)
class StepSpeed:
    """The speed of a stage's training step.

    Attributes:
      microbatches: number of microbatches per step, as in training.
      compiler_options: the compiler's options, as in training.
      refused_options: names of the options that this compiler does not know.
      compile_seconds: time for tracing, lowering and compiling, including attempts that did not fit the memory.
      step_seconds: median time of a step.
      images_per_second: images per second over all devices.
    """

    microbatches: int
    compiler_options: Mapping[str, str]
    refused_options: Sequence[str]
    compile_seconds: float
    step_seconds: float
    images_per_second: float


def step_speed(
    experiment: Experiment, stage: Stage, steps: int, report: Callable[[str], None] = lambda _: None
) -> StepSpeed:
    """Compiles a stage's training step for this machine's devices and times `steps` calls on random images.

    `report` shows what is being done.

    Raises:
      DeviceMemoryError: if the step does not fit with any number of microbatches that the config allows.
    """
    mesh = sharding.make_mesh()
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    batch_size = experiment.config.batch_size
    state = jax.device_put(experiment.initial_state(init_variables(experiment.model, 0)), whole)
    constants = jax.device_put(constants_of(experiment), whole)
    batch = jax.device_put(_random_batch(experiment, batch_size, stage.image_size), divided)
    available = device_memory(experiment.config.device_memory_gib)
    report("compiling the training step")
    start = time.perf_counter()
    with BackgroundCompiler(available) as compiler:
        compiler.add(stage.name, partial(train_program, experiment, stage, mesh), experiment.microbatches(stage.name))
        compiler.compile_all()
        program = compiler.get(stage.name)
        figures = compiler.figures()[stage.name]
    compile_seconds = time.perf_counter() - start
    seconds = []
    for number in range(steps + 1):  # the first call is a warm-up
        report(f"timing the training step, {number} of {steps} done" if number else "running the training step once")
        start = time.perf_counter()
        state, metrics = program(state, batch, *constants)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - start)
    median = float(np.median(seconds[1:]))
    options, refused = figures["compiler_options"], figures["refused_options"]
    return StepSpeed(figures["accumulation_steps"], options, refused, compile_seconds, median, batch_size / median)


def _random_batch(experiment: Experiment, batch_size: int, image_size: int) -> dict[str, Any]:
    """Returns a batch of random images. All are of class 1, or of every class if the labels are multi-hot."""
    rng = np.random.default_rng(0)
    shapes = experiment.abstract_batch(batch_size, image_size)
    images = rng.integers(0, 256, shapes["image"].shape, np.uint8)
    return {"image": images, "label": np.ones(shapes["label"].shape, shapes["label"].dtype)}
