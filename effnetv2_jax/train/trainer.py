"""The training run."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from effnetv2_jax.data.broken import BrokenImages
from effnetv2_jax.data.pipeline import TrainBatches, train_batches
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables, init_variables
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.compiler import BackgroundCompiler, enable_cache
from effnetv2_jax.train.devices.memory import device_memory
from effnetv2_jax.train.devices.platform import require_platform
from effnetv2_jax.train.devices.profile import Trace, check_within, parse_steps
from effnetv2_jax.train.evaluation import evaluate_split
from effnetv2_jax.train.experiment import Experiment, make_experiment
from effnetv2_jax.train.programs import EVALUATION, eval_program, stage_name, train_program
from effnetv2_jax.train.recipe.eval_step import Results
from effnetv2_jax.train.recipe.progressive import Stage, stage_at
from effnetv2_jax.train.recipe.state import TrainState
from effnetv2_jax.train.recipe.step import Metrics
from effnetv2_jax.train.report.reporter import Reporter
from effnetv2_jax.train.run import processes
from effnetv2_jax.train.run.bad_steps import BadSteps
from effnetv2_jax.train.run.checkpoint import Checkpoints
from effnetv2_jax.train.run.divergence import check_finite, ruined_checkpoint_deleted
from effnetv2_jax.train.run.preemption import Stopped, StopSignal
from effnetv2_jax.train.run.workdir import CHECKPOINTS, claim

InitialVariables = Callable[[EfficientNetV2], Variables]


def train(
    config: TrainConfig, workdir: str, initial_variables: InitialVariables | None = None, profile: str = ""
) -> dict[str, Any]:
    """Trains a model, or resumes the run in a run folder, and returns the run's summary.

    On several hosts, each process calls it with the same arguments, after `processes.join`. The images in a batch and
    their random numbers do not depend on the number of devices and processes. The order in which a batch is summed
    does, so runs on different numbers of devices agree to rounding but not to the bit.

    Args:
      config: the run.
      workdir: the run folder, a path or `gs://…` that all processes share. It gets `config.json`, `data.json`,
        `model.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `curves.png`, `stage_*.png` and `summary.json`.
      initial_variables: model → its variables before step 0; None draws fresh ones.
      profile: the steps START:STOP to trace with the profiler, into `profile/` in the run folder; "" for none.

    Raises:
      ValueError: for a config that cannot run, a config or data that differ from those of the run in the folder, or
        steps to profile that the run does not have.
      FileNotFoundError: if the data does not exist.
      RuntimeError: if JAX has not found the platform that the config requires, or processes have not joined.
      DeviceMemoryError: if a program does not fit the memory of the devices.
      Diverged: when loss, gradients or state are no longer finite. The latest checkpoint is deleted if the loss of the
        step after it shows that its state was already useless; all others stay.
      Stopped: at SIGTERM or Ctrl-C, after saving.
    """
    traced_steps = parse_steps(profile)
    require_platform(config.platform)
    processes.require_joined()
    enable_cache(config.compilation_cache)
    experiment = processes.first_before_others(
        partial(make_experiment, config, jax.device_count(), jax.process_count())
    )
    check_within(traced_steps, experiment.total_steps)
    folder = claim(workdir, experiment.identity())
    mesh = sharding.make_mesh()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        checkpoints = stack.enter_context(Checkpoints(folder / CHECKPOINTS, config.checkpoint.keep))
        stack.enter_context(ruined_checkpoint_deleted(checkpoints))
        step = checkpoints.latest
        stop.starts_at(step)
        report = stack.enter_context(Reporter(experiment.description(), folder, step))
        trace = stack.enter_context(Trace(str(folder / "profile"), traced_steps))
        report.introduce()
        if traced_steps and step >= traced_steps.stop:
            report.warn(f"the run is already past the steps to profile, {profile}")
        programs = stack.enter_context(_compiling(experiment, mesh, step))
        state = _state(experiment, mesh, checkpoints, initial_variables)
        bad_steps = BadSteps(config.optimizer.max_bad_steps)
        run = _Run(experiment, mesh, programs, checkpoints, stop, report, trace, state, step, step, bad_steps)
        for stage in _remaining_stages(experiment, step):
            run.train_stage(stage)
        checkpoints.wait()
        results = report.results_at(run.step) or run.evaluate()
        summary = report.finish(results, programs.figures())
        processes.wait_for_all("the summary is written")
        return summary


@dataclasses.dataclass
class _Run:
    """A run in progress: its parts, the state after `step` steps, and `saved_step`, the step that was saved last."""

    experiment: Experiment
    mesh: Mesh
    programs: BackgroundCompiler
    checkpoints: Checkpoints
    stop: StopSignal
    report: Reporter
    trace: Trace
    state: TrainState
    step: int
    saved_step: int
    bad_steps: BadSteps
    broken: BrokenImages | None = None

    def train_stage(self, stage: Stage) -> None:
        """Trains to the end of a stage.

        Raises:
          Diverged: if a number is no longer finite.
          Stopped: if a signal has requested a stop.
        """
        train_step = self.programs.get(stage_name(stage))
        host_batches = self._host_batches(stage)
        self.broken = host_batches.broken
        batches = self.report.with_pictures(stage, self.step, host_batches)
        self.report.start(stage, self.step, self.programs.figures()[stage_name(stage)])
        for batch in self._on_devices(batches, stage):
            self.trace.before(self.step, self.state)
            self.state, metrics = train_step(self.state, batch)
            self.step += 1
            self._after_step(stage, metrics)

    def evaluate(self) -> Results:
        """Evaluates the raw and the averaged weights, and reports the results."""
        experiment = self.experiment
        with self.report.paused():
            results = evaluate_split(
                self.programs.get(EVALUATION),
                self.state.weights,
                experiment.config.data,
                image_size=experiment.eval_size,
                batch_size=experiment.eval_batch_size,
                examples=experiment.dataset_info.eval_examples,
                mesh=self.mesh,
            )
        self.report.evaluation(self.step, results)
        return results

    def _after_step(self, stage: Stage, metrics: Metrics) -> None:
        experiment, config, step = self.experiment, self.experiment.config, self.step
        self.bad_steps.note(step, metrics)
        if step == self.saved_step + 1:  # this loss shows whether the saved state is any good
            self._look_at_steps(stage)
        if _due(step, config.log_every_steps) or step == stage.end_step:
            assert self.broken is not None
            self._look_at_steps(stage)
            self.report.step(step, stage, metrics, self.broken.skipped)
        results = self.evaluate() if _due(step, experiment.evaluate_every) else None
        stopping = self.stop.stops_at(step)
        if stopping or results or _due(step, experiment.checkpoint_every) or step == stage.end_step:
            self._look_at_steps(stage)
            arrays = {
                jax.tree_util.keystr(path): np.asarray(leaf.addressable_data(0))
                for path, leaf in jax.tree_util.tree_leaves_with_path(self.state)
            }
            check_finite(arrays, step)
            self.report.flush()  # a run that resumes from this step must find all rows up to it
            self.checkpoints.save(step, self.state, results[config.evaluation.weights]["top1"] if results else None)
            self.saved_step = step
        if stopping and step < experiment.total_steps:
            self.checkpoints.wait()
            raise Stopped(step)

    def _look_at_steps(self, stage: Stage) -> None:
        """Checks the metrics of the steps since the last look, and reports those that were skipped."""
        self.report.skipped_steps(self.bad_steps.look(stage, self.state.params))

    def _host_batches(self, stage: Stage) -> TrainBatches:
        """Returns this host's batches from the current step on, which continue to count broken images across stages."""
        config = self.experiment.config
        return train_batches(
            config.data,
            image_size=stage.image_size,
            magnitude=stage.magnitude,
            batch_size=config.batch_size // jax.process_count(),
            start_step=self.step,
            seed=config.seed,
            host_index=jax.process_index(),
            host_count=jax.process_count(),
            broken=self.broken,
        )

    def _on_devices(self, batches: Iterator[Any], stage: Stage) -> Iterator[Any]:
        """Yields the global batches of the rest of a stage."""
        rest = itertools.islice(batches, stage.end_step - self.step)
        return sharding.on_devices(rest, sharding.batch_sharded(self.mesh))


def _remaining_stages(experiment: Experiment, step: int) -> tuple[Stage, ...]:
    """Returns the stages that still have steps to take."""
    if step >= experiment.total_steps:
        return ()
    return experiment.stages[stage_at(experiment.stages, step).index :]


def _due(step: int, every: int) -> bool:
    """Returns whether an action that is taken every `every` steps is due after this step; 0 means never."""
    return every > 0 and step % every == 0


def _compiling(experiment: Experiment, mesh: Mesh, step: int) -> BackgroundCompiler:
    """Lowers the programs that the rest of a run needs, and starts to compile them in the order of their use.

    If the devices' memory is known, the program of the stage with the largest images is compiled first. The function
    then waits for it and for the evaluation program, so that a program that does not fit is refused before the first
    step.
    """
    stages = _remaining_stages(experiment, step)
    largest = max(stages, key=lambda stage: stage.image_size, default=None)
    image_bytes = 3 * largest.image_size**2 if largest else 0
    waiting_batches = sharding.AHEAD * image_bytes * experiment.config.batch_size // mesh.size
    available = device_memory(experiment.config.device_memory_gib, resident=waiting_batches)
    compiler = BackgroundCompiler(available)
    for stage in stages[:1]:
        compiler.add(stage_name(stage), partial(train_program, experiment, stage, mesh), experiment.accumulation)
    compiler.add(EVALUATION, lambda _: eval_program(experiment, mesh))
    for stage in stages[1:]:
        compiler.add(stage_name(stage), partial(train_program, experiment, stage, mesh), experiment.accumulation)
    if available and largest:
        compiler.compile_all(first=stage_name(largest))
        compiler.get(stage_name(largest))
        compiler.get(EVALUATION)
    else:
        compiler.compile_all()
    return compiler


def _state(
    experiment: Experiment, mesh: Mesh, checkpoints: Checkpoints, initial_variables: InitialVariables | None
) -> TrainState:
    """Returns the latest saved state, or the state before step 0."""
    if checkpoints.steps:
        return checkpoints.restore(sharding.with_sharding(experiment.abstract_state(), sharding.replicated(mesh)))
    variables = (initial_variables or partial(init_variables, seed=experiment.config.seed))(experiment.model)
    return sharding.replicate(experiment.initial_state(variables), mesh)
