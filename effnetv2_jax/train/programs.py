"""What is compiled for a run: the training step of each stage and the evaluation step, with shapes and shardings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.evaluation import make_eval_step
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.step import make_train_step

EVALUATION = "evaluation"


@dataclasses.dataclass(frozen=True)
class Source:
    """A function to jit, the shapes it is called with (`jax.ShapeDtypeStruct` with shardings), and how to jit it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def jitted(self) -> Any:
        """Returns the jitted function."""
        return jax.jit(self.function, **self.options)


def stage_name(stage: Stage) -> str:
    """Returns what a stage's program is called."""
    return f"stage_{stage.index + 1}"


def train_source(experiment: Experiment, stage: Stage, mesh: Mesh, microbatches: int = 1) -> Source:
    """Returns a stage's step: (state, batch) → (state, metrics), the state donated."""
    recipe = dataclasses.replace(experiment.recipe, accumulation_steps=microbatches)
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    batch = experiment.abstract_batch(experiment.config.batch_size, stage.image_size)
    return Source(
        make_train_step(recipe, stage),
        (sharding.with_sharding(experiment.abstract_state(), whole), sharding.with_sharding(batch, divided)),
        {"in_shardings": (whole, divided), "out_shardings": (whole, whole), "donate_argnums": 0},
    )


def eval_source(experiment: Experiment, mesh: Mesh) -> Source:
    """Returns the evaluation step: (variables, batch with mask) → sums over the batch."""
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    batch = experiment.abstract_batch(experiment.eval_batch_size, experiment.eval_size, masked=True)
    variables = experiment.abstract_state().variables
    return Source(
        make_eval_step(experiment.model, experiment.recipe.family, experiment.recipe.loss),
        (sharding.with_sharding(variables, whole), sharding.with_sharding(batch, divided)),
        {"in_shardings": (whole, divided), "out_shardings": whole},
    )
