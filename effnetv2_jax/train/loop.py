"""The loop of a run: steps, evaluations and saves, until its end or a signal."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh

from effnetv2_jax.byte_size import byte_size
from effnetv2_jax.data.broken import BrokenImages
from effnetv2_jax.data.pipeline import TrainBatches, train_batches
from effnetv2_jax.train.checkpoint.checkpoints import Checkpoints
from effnetv2_jax.train.checkpoint.saver import Saver
from effnetv2_jax.train.checkpoint.storage import state_bytes
from effnetv2_jax.train.compilation import remaining_stages
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.compiler import BackgroundCompiler
from effnetv2_jax.train.devices.profile import Trace
from effnetv2_jax.train.evaluation import evaluate_split
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.recipe.eval_step import Results
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.state import TrainState
from effnetv2_jax.train.recipe.step import Metrics
from effnetv2_jax.train.report.reporter import Reporter
from effnetv2_jax.train.run import processes
from effnetv2_jax.train.run.bad_steps import BadSteps
from effnetv2_jax.train.run.divergence import Diverged
from effnetv2_jax.train.run.heartbeat import Heartbeat, Phase
from effnetv2_jax.train.run.preemption import Stopped, StopSignal
from effnetv2_jax.train.run_folder.claim import Claim
from effnetv2_jax.train.tuned_programs import EVALUATION


@dataclasses.dataclass
class Loop:
    """A run in progress: its parts, the state after `step` steps, and `saved_step`, the step that was saved last.

    `constants` are the arguments of a training step after the batch, see `constants_of`. `judge` is called with the
    step and the results of each evaluation; an error that it raises ends the run.
    """

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
    constants: tuple[Any, ...] = ()
    broken: BrokenImages | None = None
    judge: Callable[[int, Results], None] | None = None

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
        train_step = self.programs.get(stage.name, partial(self._progress, "compile"))
        self._progress("input")
        host_batches = self._host_batches(stage)
        self.broken = host_batches.broken
        batches = self.report.with_pictures(stage, self.step, host_batches)
        self.report.start(stage, self.step, self.programs.figures()[stage.name])
        with self.stop.deferred():
            for batch in self._on_devices(batches, stage):
                self.trace.before(self.step, self.state)
                self.state, metrics = train_step(self.state, batch, *self.constants)
                self.step += 1
                self.alive.beat("train", self.step)
                self._after_step(stage, metrics)

    def evaluate(self) -> Results:
        """Evaluates the raw and the averaged weights, and reports the results. A signal ends it with the next batch.

        The state must be saved before, since a run that is stopped meanwhile evaluates when it resumes.
        """
        experiment = self.experiment
        with self.stop.immediate(), self.report.paused():
            eval_step = self.programs.get(EVALUATION, partial(self._progress, "compile"))
            self.report.refused_options(EVALUATION, self.programs.figures()[EVALUATION]["refused_options"])
            results = evaluate_split(
                eval_step,
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
        if self.judge:
            self.judge(self.step, results)
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
