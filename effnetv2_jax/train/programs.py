"""The programs of a run: the training step of each stage, and the evaluation step."""

from __future__ import annotations

import dataclasses

from jax.sharding import Mesh

from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.program import Program
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.recipe.eval_step import make_eval_step
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.step import make_train_step
from effnetv2_jax.train.tuned_programs import EVALUATION


def train_program(experiment: Experiment, stage: Stage, mesh: Mesh, microbatches: int = 1) -> Program:
    """Returns the program of a stage's training step: (state, batch) → (state, metrics), with the state donated.

    With a teacher, its variables are a third argument.
    """
    settings = experiment.settings(stage.name)
    model = experiment.model.clone(remat=settings.remat) if settings.remat else experiment.model
    recipe = dataclasses.replace(experiment.recipe, model=model, accumulation_steps=microbatches)
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    batch = experiment.abstract_batch(experiment.config.batch_size, stage.image_size)
    teacher = [sharding.with_sharding(experiment.teacher.variables, whole)] if experiment.teacher else []
    return Program(
        make_train_step(recipe, stage),
        (sharding.with_sharding(experiment.abstract_state(), whole), sharding.with_sharding(batch, divided), *teacher),
        {
            "in_shardings": (whole, divided, *(whole for _ in teacher)),
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
