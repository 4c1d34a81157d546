"""The training run."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax

from effnetv2_jax.data.broken import BrokenImages
from effnetv2_jax.data.pipeline import TrainBatches, train_batches
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.initializers import init_variables
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.compiler import Programs, enable_cache
from effnetv2_jax.train.devices.memory import device_memory
from effnetv2_jax.train.devices.profile import Trace, check_within, parse_steps
from effnetv2_jax.train.evaluation import Results, evaluate_split
from effnetv2_jax.train.experiment import Experiment, make_experiment
from effnetv2_jax.train.programs import EVALUATION, eval_source, stage_name, train_source
from effnetv2_jax.train.recipe.progressive import Stage, stage_at
from effnetv2_jax.train.recipe.state import TrainState, Variables
from effnetv2_jax.train.report.reporter import Reporter
from effnetv2_jax.train.run import processes
from effnetv2_jax.train.run.checkpoint import FOLDER, Checkpoints
from effnetv2_jax.train.run.divergence import check_metrics, check_state, sound
from effnetv2_jax.train.run.preemption import Stopped, StopSignal
from effnetv2_jax.train.run.workdir import claimed

InitialVariables = Callable[[EfficientNetV2], Variables]

PLATFORMS = ("", "accelerator", "tpu", "gpu", "cpu")


def train(
    config: TrainConfig, workdir: str, initial_variables: InitialVariables | None = None, profile: str = ""
) -> dict[str, Any]:
    """Trains a model, or goes on with what lies in the workdir, and returns its summary.

    On several hosts each process calls it with the same arguments, after `processes.join`. Rows of a batch, and what is
    drawn for them on the device, do not depend on how many devices and processes there are; sums over the batch do, by
    their order, so runs on other numbers of them agree to rounding and not to the bit.

    Args:
      config: the run.
      workdir: the run's folder, a path or `gs://…`. All processes share it. It gets `config.json`,
        `data.json`, `model.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/`, `curves.png`, `stage_*.png` and
        `summary.json`.
      initial_variables: model → its variables before step 0, in place of fresh ones.
      profile: START:STOP, the steps of which a trace goes to `profile/` in the workdir; "" for none.

    Raises:
      ValueError: for a config that can't run, or one that differs from the workdir's, or data that does; for steps
        to profile that the run does not have.
      RuntimeError: without the platform that the config demands, or with processes that have not joined.
      Diverged: when loss, gradients or state are no longer finite; checkpoints whose next step had a finite loss stay.
      Stopped: after saving, at SIGTERM or Ctrl-C.
    """
    traced = parse_steps(profile)
    require_platform(config.platform)
    processes.require_joined()
    enable_cache(config.compilation_cache)
    experiment = processes.first_before_others(
        partial(make_experiment, config, jax.device_count(), jax.process_count())
    )
    check_within(traced, experiment.total_steps)
    folder = claimed(workdir, experiment)
    mesh = sharding.make_mesh()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        checkpoints = stack.enter_context(Checkpoints(folder / FOLDER, config.checkpoint.keep))
        stack.enter_context(sound(checkpoints))
        step = saved = checkpoints.latest
        stop.starts_at(step)
        report = stack.enter_context(Reporter(experiment, folder, step))
        trace = stack.enter_context(Trace(str(folder / "profile"), traced))
        report.introduce()
        if traced and step >= traced.stop:
            report.warn(f"the run is past the steps to profile, {profile}")
        programs = stack.enter_context(_programs(experiment, mesh, step))
        state = _state(experiment, mesh, checkpoints, initial_variables)

        def evaluated(step: int) -> Results:
            with report.paused(step):
                results = _evaluate(experiment, mesh, programs, state)
            report.evaluation(step, results)
            return results

        broken = None
        for stage in _stages_from(experiment, step):
            train_step = programs.get(stage_name(stage))
            host_batches = _host_batches(experiment, stage, step, broken)
            broken = host_batches.broken
            pictured = report.with_pictures(stage, step, host_batches)
            report.start(stage, step, programs.facts()[stage_name(stage)])
            for batch in _on_devices(pictured, stage, step, mesh):
                trace.before(step, state)
                state, metrics = train_step(state, batch)
                step += 1
                if step == saved + 1:  # the loss of the state that was saved
                    check_metrics(metrics, step, stage)
                if _due(step, config.log_every_steps, stage):
                    report.step(step, stage, metrics, broken.skipped)
                results = evaluated(step) if _due(step, experiment.evaluate_every) else None
                stopping = stop.stops_at(step)
                if stopping or results or _due(step, experiment.checkpoint_every, stage):
                    check_metrics(metrics, step, stage)
                    check_state(state, step)
                    top1 = results[config.evaluation.weights]["top1"] if results else None
                    checkpoints.save(step, state, top1)
                    saved = step
                if stopping and step < experiment.total_steps:
                    checkpoints.wait()
                    raise Stopped(step)
            programs.check_retraces(None if config.debug else report.warn)
            del host_batches, pictured, batch  # they hold the stage's buffers, and the next stage makes its own
        checkpoints.wait()
        summary = report.finish(report.results_at(step) or evaluated(step), programs.facts())
        processes.wait_for_all("the summary is written")
        return summary


def require_platform(platform: str) -> None:
    """Refuses to run on anything but the given platform; "" takes what there is.

    Raises:
      RuntimeError: if JAX found another one.
      ValueError: for an unknown platform.
    """
    if platform not in PLATFORMS:
        raise ValueError(f"platform must be one of {', '.join(map(repr, PLATFORMS))}, got {platform!r}")
    found = jax.default_backend()
    if platform and platform != found and (platform != "accelerator" or found == "cpu"):
        raise RuntimeError(
            f"the config demands the platform {platform!r}, but JAX found only {found!r}; "
            "--config.platform= takes what there is"
        )


def _stages_from(experiment: Experiment, step: int) -> tuple[Stage, ...]:
    """Returns the stages with steps still to take."""
    if step >= experiment.total_steps:
        return ()
    return experiment.stages[stage_at(experiment.stages, step).index :]


def _due(step: int, every: int, stage: Stage | None = None) -> bool:
    """Tells whether what happens every so many steps (0: never), and at a stage's end, happens after a step."""
    return (every > 0 and step % every == 0) or (stage is not None and step == stage.end_step)


def _programs(experiment: Experiment, mesh: jax.sharding.Mesh, step: int) -> Programs:
    """Returns the programs from a step on, lowered and being compiled in the order of their use.

    Where the devices' memory is known, the largest stage's program comes first, and it and the evaluation are waited
    for: what does not fit is refused before the first step.
    """
    stages = _stages_from(experiment, step)
    largest = max(stages, key=lambda stage: stage.image_size, default=None)
    image_bytes = 3 * largest.image_size**2 if largest else 0
    waiting = sharding.AHEAD * image_bytes * experiment.config.batch_size // mesh.size
    available = device_memory(experiment.config.device_memory_gib, resident=waiting)
    programs = Programs(available)
    for stage in stages[:1]:
        programs.add(stage_name(stage), partial(train_source, experiment, stage, mesh), experiment.accumulation)
    programs.add(EVALUATION, lambda _: eval_source(experiment, mesh))
    for stage in stages[1:]:
        programs.add(stage_name(stage), partial(train_source, experiment, stage, mesh), experiment.accumulation)
    if available and largest:
        programs.compile_all(first=stage_name(largest))
        programs.get(stage_name(largest))
        programs.get(EVALUATION)
    else:
        programs.compile_all()
    return programs


def _state(
    experiment: Experiment,
    mesh: jax.sharding.Mesh,
    checkpoints: Checkpoints,
    initial_variables: InitialVariables | None,
) -> TrainState:
    """Returns the latest state saved, or the one before step 0."""
    if checkpoints.steps:
        return checkpoints.restore(sharding.with_sharding(experiment.abstract_state(), sharding.replicated(mesh)))
    variables = (initial_variables or partial(init_variables, seed=experiment.config.seed))(experiment.model)
    return sharding.replicate(experiment.initial_state(variables), mesh)


def _host_batches(experiment: Experiment, stage: Stage, step: int, broken: BrokenImages | None) -> TrainBatches:
    """Returns this host's batches from a step on; broken images are counted on from those of the stage before."""
    config = experiment.config
    return train_batches(
        config.data,
        image_size=stage.image_size,
        magnitude=stage.magnitude,
        batch_size=config.batch_size // jax.process_count(),
        start_step=step,
        seed=config.seed,
        host_index=jax.process_index(),
        host_count=jax.process_count(),
        broken=broken,
    )


def _on_devices(batches: Iterator[Any], stage: Stage, step: int, mesh: jax.sharding.Mesh) -> Iterator[Any]:
    """Yields the global batches of the rest of a stage."""
    rest = itertools.islice(batches, stage.end_step - step)
    return sharding.on_devices(rest, sharding.batch_sharded(mesh))


def _evaluate(experiment: Experiment, mesh: jax.sharding.Mesh, programs: Programs, state: TrainState) -> Results:
    return evaluate_split(
        programs.get(EVALUATION),
        state.weights,
        experiment.config.data,
        image_size=experiment.eval_size,
        batch_size=experiment.eval_batch_size,
        examples=experiment.facts.eval_examples,
        mesh=mesh,
    )
