"""The programs of a run: the training step of each stage, and the evaluation step."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jax import Array
from jax.sharding import Mesh

from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.program import Program
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.recipe.eval_step import make_eval_step
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.state import TrainState
from effnetv2_jax.train.recipe.step import Batch, Metrics, make_train_step
from effnetv2_jax.train.tuned_programs import EVALUATION


def constants_of(experiment: Experiment) -> tuple[Any, ...]:
    """Returns the arguments of a training step after the batch: the run's seed, and the teacher's variables, if any.

    Since the seed is an argument, runs that differ only in their seeds share their compiled programs.
    """
    teacher = (experiment.teacher.variables,) if experiment.teacher else ()
    return (np.uint32(experiment.config.seed % 2**32), *teacher)


def train_program(experiment: Experiment, stage: Stage, mesh: Mesh, microbatches: int = 1) -> Program:
    """Returns the program of a stage's training step: (state, batch, *constants) → (state, metrics).

    The state is donated. The constants are those of `constants_of`.
    """
    settings = experiment.settings(stage.name)
    model = experiment.model.clone(remat=settings.remat) if settings.remat else experiment.model
    recipe = dataclasses.replace(experiment.recipe, model=model, accumulation_steps=microbatches)
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    batch = experiment.abstract_batch(experiment.config.batch_size, stage.image_size)
    state = sharding.with_sharding(experiment.abstract_state(), whole)
    constants = sharding.with_sharding(constants_of(experiment), whole)

    def train_step(state: TrainState, batch: Batch, seed: Array, *teacher: Any) -> tuple[TrainState, Metrics]:
        return make_train_step(dataclasses.replace(recipe, seed=seed), stage)(state, batch, *teacher)

    return Program(
        train_step,
        (state, sharding.with_sharding(batch, divided), *constants),
        {
            "in_shardings": (whole, divided, *(whole for _ in constants)),
            "out_shardings": (whole, whole),
            "donate_argnums": 0,
        },
        settings.compiler_options,
    )


def eval_program(experiment: Experiment, mesh: Mesh) -> Program:
    """Returns the program of the evaluation step: (variables, batch with mask) → sums over the batch."""
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    batch = experiment.abstract_batch(experiment.eval_batch_size, experiment.eval_size, masked=True)
    variables = experiment.abstract_state().variables
    return Program(
        make_eval_step(
            experiment.model,
            experiment.recipe.family,
            experiment.recipe.loss,
            folds_batch_norm=experiment.config.evaluation.fold_batch_norm,
        ),
        (sharding.with_sharding(variables, whole), sharding.with_sharding(batch, divided)),
        {"in_shardings": (whole, divided), "out_shardings": whole},
        experiment.settings(EVALUATION).compiler_options,
    )
