"""The training run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh

from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables, init_variables
from effnetv2_jax.train.checkpoint.arrays import Arrays
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints
from effnetv2_jax.train.checkpoint.saver import Saver
from effnetv2_jax.train.compilation import compiling
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.derivation import make_experiment, with_parts
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.chips import device_name
from effnetv2_jax.train.devices.compiler import enable_cache
from effnetv2_jax.train.devices.platform import require_platform
from effnetv2_jax.train.devices.profile import Trace, check_within, parse_steps
from effnetv2_jax.train.experiment import Experiment, require_teacher
from effnetv2_jax.train.loop import Loop
from effnetv2_jax.train.programs import constants_of
from effnetv2_jax.train.recipe.distillation import Teacher
from effnetv2_jax.train.recipe.eval_step import Results
from effnetv2_jax.train.recipe.state import TrainState
from effnetv2_jax.train.report.reporter import Reporter
from effnetv2_jax.train.report.tracker import require_tracker
from effnetv2_jax.train.run import processes
from effnetv2_jax.train.run.bad_steps import BadSteps
from effnetv2_jax.train.run.divergence import check_finite, ruined_checkpoint_deleted
from effnetv2_jax.train.run.heartbeat import Heartbeat
from effnetv2_jax.train.run.preemption import Stopped, StopSignal
from effnetv2_jax.train.run.roll_call import RollCall
from effnetv2_jax.train.run_folder.claim import claimed, saved_number
from effnetv2_jax.train.run_memory import check_run_memory
from effnetv2_jax.train.start import Start, find_start

InitialVariables = Callable[[EfficientNetV2], Variables]


def train(
    config: TrainConfig,
    workdir: str,
    initial_variables: InitialVariables | None = None,
    profile: str = "",
    *,
    teacher: Teacher | None = None,
    accepted_changes: Collection[str] = (),
    own_process: bool = False,
    judge: Callable[[int, Results], None] | None = None,
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
      teacher: the network that `distillation.teacher` of the config names.
      profile: the steps START:STOP to trace with the profiler, into `profile/` in the run folder; "" for none.
      accepted_changes: names of fields of the config, of those in `FIELDS_ON_REQUEST`, that may differ from the config
        of the run in the folder; the run goes on with the new values.
      own_process: whether the process belongs to the run, which may then end it: after the grace period of a signal, or
        if another process of the run hangs or is lost.
      judge: called with the step and the results of each evaluation. An error that it raises ends the run, and is
        passed on.

    Raises:
      ValueError: for a config that cannot run or does not fit the memory of a host, a config or data that differ from
        those of the run in the folder, a folder that another process trains in, or steps to profile that the run does
        not have.
      DamagedCheckpointError: if the folder has checkpoints, and none of them is sound.
      FileNotFoundError: if the data does not exist.
      OSError: if the run cannot be saved.
      OwnershipLost: if another process has taken over the folder, which can happen only where files cannot be locked.
      ImportError: if the tracker that the config names is not installed.
      RuntimeError: if JAX has not found the platform that the config requires, or processes have not joined.
      DeviceMemoryError: if a program does not fit the memory of the devices.
      Diverged: when loss, gradients or state are no longer finite. The latest checkpoint is deleted if the loss of the
        step after it shows that its state was already useless; all others stay.
      Stopped: at SIGTERM or Ctrl-C, after saving.
    """
    traced_steps = parse_steps(profile)
    require_platform(config.platform)
    require_tracker(config.tracker)
    processes.require_joined()
    enable_cache(config.compilation_cache)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal(config.grace_seconds, own_process=own_process))
        stack.enter_context(RollCall(stop.request, active=own_process))
        experiment = processes.first_before_others(
            partial(
                make_experiment,
                with_parts(config, saved_number(workdir, "data.parts", jax.process_count())),
                jax.device_count(),
                jax.process_count(),
                device=device_name(jax.devices()[0]),
                teacher=teacher,
            )
        )
        require_teacher(experiment)
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
            check_finite(arrays, step, stages=experiment.stages, learning_rate=experiment.recipe.learning_rate)
            report.flush()  # a run that resumes from this checkpoint must find all rows up to it

        saver = stack.enter_context(
            Saver(checkpoints, config.checkpoint, check=check, warn=report.warn, active=processes.is_first())
        )
        saver.scores |= report.scores()
        stop.saved_step = lambda: max(start.step, saver.written_step)
        stack.enter_context(ruined_checkpoint_deleted(saver, checkpoints))
        trace = stack.enter_context(Trace(str(folder / "profile"), traced_steps))
        report.introduce([*start.warnings, *news.warnings])
        for line in (*news.changes, *experiment.tuning_lines()):
            report.say(line)
        if traced_steps and start.step >= traced_steps.stop:
            report.warn(f"the run is already past the steps to profile, {profile}")
        mesh = sharding.make_mesh()

        def progress() -> None:
            alive.beat("compile", start.step)
            stop.check()

        state = _state(experiment, mesh, start, initial_variables)  # first: weights that cannot be read end the run
        programs = stack.enter_context(compiling(experiment, mesh, start.step, progress))
        bad_steps, step = BadSteps(config.optimizer.max_bad_steps), start.step
        run = Loop(experiment, mesh, claim, programs, saver, stop, alive, report, trace, state, step, step, bad_steps)
        run.constants, run.judge = sharding.replicate(constants_of(experiment), mesh), judge
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


def _state(experiment: Experiment, mesh: Mesh, start: Start, initial_variables: InitialVariables | None) -> TrainState:
    """Returns the saved state that a run resumes from, or the state before step 0, on all devices."""
    if start.state is not None:
        return sharding.replicate(start.state, mesh)
    variables = (initial_variables or partial(init_variables, seed=experiment.config.seed))(experiment.model)
    return sharding.replicate(experiment.initial_state(variables), mesh)
