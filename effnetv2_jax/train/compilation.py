"""The compilation of a run's programs, in the order of their use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from jax.sharding import Mesh

from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.compiler import BackgroundCompiler, ProgramOf
from effnetv2_jax.train.devices.memory import device_memory
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.programs import eval_program, train_program
from effnetv2_jax.train.recipe.progressive import Stage, stage_at
from effnetv2_jax.train.tuned_programs import EVALUATION


def remaining_stages(experiment: Experiment, step: int) -> tuple[Stage, ...]:
    """Returns the stages that still have steps to take."""
    if step >= experiment.total_steps:
        return ()
    return experiment.stages[stage_at(experiment.stages, step).index :]


def compiling(experiment: Experiment, mesh: Mesh, step: int, progress: Callable[[], None]) -> BackgroundCompiler:
    """Lowers the programs that the rest of a run needs, and starts to compile them in the order of their use.

    If the devices' memory is known, the program of the stage with the largest images is compiled first. The function
    then waits for it and for the evaluation program, so that a program that does not fit is refused before the first
    step. `progress` is called between two programs, and every half second while it waits.
    """
    stages = remaining_stages(experiment, step)
    largest = max(stages, key=lambda stage: stage.image_size, default=None)
    image_bytes = 3 * largest.image_size**2 if largest else 0
    waiting_batches = sharding.AHEAD * image_bytes * experiment.config.batch_size // mesh.size
    available = device_memory(experiment.config.device_memory_gib, resident=waiting_batches)
    compiler = BackgroundCompiler(available)
    programs: list[tuple[str, ProgramOf, Sequence[int]]] = [
        (stage.name, partial(train_program, experiment, stage, mesh), experiment.microbatches(stage.name))
        for stage in stages
    ]
    programs.insert(1, (EVALUATION, lambda _: eval_program(experiment, mesh), (1,)))
    for program in programs:
        progress()
        compiler.add(*program)
    if available and largest:
        compiler.compile_all(first=largest.name)
        for name in (largest.name, EVALUATION):
            compiler.get(name, progress)
    else:
        compiler.compile_all()
    return compiler
