"""The training run."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.data.broken import BrokenImages
from effnetv2_jax.data.pipeline import TrainBatches, train_batches
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables, init_variables
from effnetv2_jax.train.checkpoint.arrays import Arrays
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints
from effnetv2_jax.train.checkpoint.saver import Saver
from effnetv2_jax.train.checkpoint.storage import state_bytes
from effnetv2_jax.train.compilation import compiling, remaining_stages
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.compiler import BackgroundCompiler, enable_cache
from effnetv2_jax.train.devices.platform import require_platform
from effnetv2_jax.train.devices.profile import Trace, check_within, parse_steps
from effnetv2_jax.train.evaluation import evaluate_split
from effnetv2_jax.train.experiment import Experiment, make_experiment
from effnetv2_jax.train.programs import EVALUATION, stage_name
from effnetv2_jax.train.recipe.eval_step import Results
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.state import TrainState
from effnetv2_jax.train.recipe.step import Metrics
from effnetv2_jax.train.report.reporter import Reporter
from effnetv2_jax.train.run import processes
from effnetv2_jax.train.run.bad_steps import BadSteps
from effnetv2_jax.train.run.divergence import Diverged, check_finite, ruined_checkpoint_deleted
from effnetv2_jax.train.run.heartbeat import Heartbeat, Phase
from effnetv2_jax.train.run.preemption import Stopped, StopSignal
from effnetv2_jax.train.run.workdir import Claim, claimed
from effnetv2_jax.train.run_memory import check_run_memory
from effnetv2_jax.train.start import Start, find_start

InitialVariables = Callable[[EfficientNetV2], Variables]


def train(
    config: TrainConfig,
    workdir: str,
    initial_variables: InitialVariables | None = None,
    profile: str = "",
    *,
    accepted_changes: Collection[str] = (),
    own_process: bool = False,
) -> dict[str, Any]:
    """Trains a model, or resumes the run in a run folder, and returns the run's summary.

    On several hosts, each process calls it with the same arguments, after `processes.join`. The images in a batch and
    their random numbers do not depend on the number of devices and processes. The order in which a batch is summed
    does, so runs on different numbers of devices agree to rounding but not to the bit.

    Args:
      config: the run.
      workdir: the run folder, a path or `gs://…` that all processes share. It gets `config.json`, `data.json`,
        `model.json`, `starts.json`, `owner.json`, `checkpoints/`, `metrics.jsonl`, `heartbeat.json`, `tensorboard/`,
        `curves.png`, `stage_*.png` and `summary.json`.
      initial_variables: model → its variables before step 0; None draws fresh ones.
      profile: the steps START:STOP to trace with the profiler, into `profile/` in the run folder; "" for none.
      accepted_changes: names of fields of the config, of those in `FIELDS_ON_REQUEST`, that may differ from the config
        of the run in the folder; the run goes on with the new values.
      own_process: whether the process belongs to the run, which may then end it: after the grace period of a signal, or
        if another process of the run hangs.

    Raises:
      ValueError: for a config that cannot run or does not fit the memory of a host, a config or data that differ from
        those of the run in the folder, a folder that another process trains in, or steps to profile that the run does
        not have.
      DamagedCheckpointError: if the folder has checkpoints, and none of them is sound.
      FileNotFoundError: if the data does not exist.
      OSError: if the run cannot be saved.
      OwnershipLost: if another process has taken over the folder, which can happen only where files cannot be locked.
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
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal(config.grace_seconds, own_process=own_process))
        experiment = processes.first_before_others(
            partial(make_experiment, config, jax.device_count(), jax.process_count())
        )
        stop.check()
        check_run_memory(experiment)
        check_within(traced_steps, experiment.total_steps)
        claim = stack.enter_context(claimed(workdir, experiment.identity(), accepted_changes))
        folder = claim.folder
        alive = stack.enter_context(Heartbeat(folder, config.stall_minutes if own_process else 0.0, stop.request))
        checkpoints = Checkpoints(folder / CHECKPOINTS)
        start = find_start(checkpoints, experiment.abstract_state(), config.checkpoint.keep)
        news = claim.begin(start.step)
        report = stack.enter_context(Reporter(experiment.description(), folder, start.step))

        def check(arrays: Arrays, step: int) -> None:
            check_finite(arrays, step)
            report.flush()  # a run that resumes from this checkpoint must find all rows up to it

        saver = stack.enter_context(
            Saver(checkpoints, config.checkpoint, check=check, warn=report.warn, active=processes.is_first())
        )
        saver.scores |= report.scores()
        stop.saved_step = lambda: max(start.step, saver.written_step)
        stack.enter_context(ruined_checkpoint_deleted(saver, checkpoints))
        trace = stack.enter_context(Trace(str(folder / "profile"), traced_steps))
        report.introduce([*start.warnings, *news.warnings])
        for line in news.changes:
            report.say(line)
        if traced_steps and start.step >= traced_steps.stop:
            report.warn(f"the run is already past the steps to profile, {profile}")
        mesh = sharding.make_mesh()

        def progress() -> None:
            alive.beat("compile", start.step)
            stop.check()

        programs = stack.enter_context(compiling(experiment, mesh, start.step, progress))
        state = _state(experiment, mesh, start, initial_variables)
        bad_steps, step = BadSteps(config.optimizer.max_bad_steps), start.step
        run = _Run(experiment, mesh, claim, programs, saver, stop, alive, report, trace, state, step, step, bad_steps)
        try:
            if not start.resumes:
                run.save_first(checkpoints)
            summary = run.to_the_end()
        except Stopped as stopped:
            run.wait_for_save()
            raise Stopped(max(stopped.step, stop.saved_step())) from None
        processes.wait_for_all("the summary is written")
        alive.beat("done")
        return summary


@dataclasses.dataclass
class _Run:
    """A run in progress: its parts, the state after `step` steps, and `saved_step`, the step that was saved last."""

    experiment: Experiment
    mesh: Mesh
    claim: Claim
    programs: BackgroundCompiler
    saver: Saver
    stop: StopSignal
    alive: Heartbeat
    report: Reporter
    trace: Trace
    state: TrainState
    step: int
    saved_step: int
    bad_steps: BadSteps
    broken: BrokenImages | None = None

    def to_the_end(self) -> dict[str, Any]:
        """Trains the stages that are left, evaluates, and returns the run's summary."""
        if self.step and _due(self.step, self.experiment.evaluate_every) and not self._is_evaluated():
            self.evaluate()  # the run was stopped before it could
        for stage in remaining_stages(self.experiment, self.step):
            self.train_stage(stage)
        self.wait_for_save()
        results = self.report.results_at(self.step) or self.evaluate()
        return self.report.finish(results, self.programs.figures())

    def train_stage(self, stage: Stage) -> None:
        """Trains to the end of a stage.

        Raises:
          Diverged: if a number is no longer finite.
          OSError: if the run cannot be saved.
          Stopped: if a signal has requested a stop.
        """
        self.alive.beat("compile", self.step, stage.index + 1)
        train_step = self.programs.get(stage_name(stage), partial(self._progress, "compile"))
        self._progress("input")
        host_batches = self._host_batches(stage)
        self.broken = host_batches.broken
        batches = self.report.with_pictures(stage, self.step, host_batches)
        self.report.start(stage, self.step, self.programs.figures()[stage_name(stage)])
        with self.stop.deferred():
            for batch in self._on_devices(batches, stage):
                self.trace.before(self.step, self.state)
                self.state, metrics = train_step(self.state, batch)
                self.step += 1
                self.alive.beat("train", self.step)
                self._after_step(stage, metrics)

    def evaluate(self) -> Results:
        """Evaluates the raw and the averaged weights, and reports the results. A signal ends it with the next batch.

        The state must be saved before, since a run that is stopped meanwhile evaluates when it resumes.
        """
        experiment = self.experiment
        with self.stop.immediate(), self.report.paused():
            results = evaluate_split(
                self.programs.get(EVALUATION, partial(self._progress, "compile")),
                self.state.weights,
                experiment.config.data,
                image_size=experiment.eval_size,
                batch_size=experiment.eval_batch_size,
                examples=experiment.dataset_info.eval_examples,
                mesh=self.mesh,
                progress=partial(self._progress, "evaluate"),
            )
        self.report.evaluation(self.step, results)
        self.saver.scores[self.step] = results[experiment.config.evaluation.weights]["top1"]
        return results

    def save_first(self, checkpoints: Checkpoints) -> None:
        """Saves the state before step 0 and reads it back, so that no run starts that could not be saved.

        Raises:
          OSError: if that fails.
        """
        start = time.monotonic()
        self.saver.save(self.step, self.state)
        self.wait_for_save()
        processes.share_first_error(partial(checkpoints.verify, self.step))
        self.report.say(
            f"checkpoint: {byte_size(state_bytes(self.state))}, written and read back in "
            f"{time.monotonic() - start:.1f} s"
        )

    def wait_for_save(self) -> None:
        """Waits until the last save is written.

        Raises:
          OSError: if it failed.
          Diverged: if the state was not finite.
        """
        processes.share_first_error(partial(self.saver.wait, partial(self.alive.beat, "save")), (OSError, Diverged))

    def _after_step(self, stage: Stage, metrics: Metrics) -> None:
        experiment, config, step = self.experiment, self.experiment.config, self.step
        self.claim.check()
        self.bad_steps.note(step, metrics)
        if step == self.saved_step + 1:  # this loss shows whether the saved state is any good
            self._look_at_steps(stage)
        if jax.process_count() == 1:  # several processes hear of a failed save when they save again
            self.saver.poll()
        if _due(step, config.log_every_steps) or step == stage.end_step:
            assert self.broken is not None
            self._look_at_steps(stage)
            self.report.step(step, stage, metrics, self.broken.skipped)
        evaluating, stopping = _due(step, experiment.evaluate_every), self.stop.stops_now()
        if stopping or evaluating or _due(step, experiment.checkpoint_every) or step == stage.end_step:
            self._look_at_steps(stage)
            self.wait_for_save()
            self.saver.save(step, self.state)
            self.saved_step = step
        if stopping:
            raise Stopped(step)
        if evaluating:
            self.evaluate()

    def _progress(self, phase: Phase) -> None:
        """Gives a sign of life, and stops the run if a signal has come, except between steps."""
        self.alive.beat(phase)
        self.stop.check()

    def _is_evaluated(self) -> bool:
        """Returns whether the current step has been evaluated before this start; all processes get the same answer."""
        return bool(processes.number_of_first(int(self.step in self.saver.scores)))

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
        rest = self._watched(itertools.islice(batches, stage.end_step - self.step))
        return sharding.on_devices(rest, sharding.batch_sharded(self.mesh))

    def _watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Passes batches through, and gives a sign of life before it waits for each."""
        while True:
            self.alive.beat("input")
            batch = next(batches, None)
            if batch is None:
                return
            yield batch


def _due(step: int, every: int) -> bool:
    """Returns whether an action that is taken every `every` steps is due after this step; 0 means never."""
    return every > 0 and step % every == 0


def _state(experiment: Experiment, mesh: Mesh, start: Start, initial_variables: InitialVariables | None) -> TrainState:
    """Returns the saved state that a run resumes from, or the state before step 0, on all devices."""
    if start.state is not None:
        return sharding.replicate(start.state, mesh)
    variables = (initial_variables or partial(init_variables, seed=experiment.config.seed))(experiment.model)
    return sharding.replicate(experiment.initial_state(variables), mesh)
