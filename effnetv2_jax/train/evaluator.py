"""Evaluation of weights that are there: a run's checkpoint, or anybody's variables."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from effnetv2_jax.data.config import DatasetFacts
from effnetv2_jax.data.families import preprocessing_family
from effnetv2_jax.data.pipeline import dataset_facts
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.initializers import variable_shapes
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.compiler import enable_cache
from effnetv2_jax.train.evaluation import Results, evaluate_split, make_eval_step
from effnetv2_jax.train.experiment import evaluation_sizes, make_model
from effnetv2_jax.train.recipe.losses import make_loss
from effnetv2_jax.train.recipe.state import Variables
from effnetv2_jax.train.run import processes
from effnetv2_jax.train.run.checkpoint import FOLDER, Checkpoints, run_folder


def evaluate_run(config: TrainConfig, workdir: str, step: int | None = None) -> Results:
    """Evaluates a run's checkpoint, the latest unless `step` names another: its `raw` and `averaged` weights.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: if the checkpoint is not one of the config's network, or a batch does not divide over the devices.
    """
    folder = run_folder(workdir) / FOLDER
    if not folder.exists():
        raise FileNotFoundError(f"{workdir} holds no run: it has no folder {FOLDER}")
    facts = _facts(config)
    model = make_model(config, facts.num_classes)
    whole = sharding.replicated(sharding.make_mesh())
    with Checkpoints(folder) as checkpoints:
        state = checkpoints.restore_weights(sharding.with_sharding(variable_shapes(model), whole), step)
    return _evaluated(config, facts, model, state.weights)


def evaluate_weights(config: TrainConfig, model: EfficientNetV2, variables: Mapping[str, Variables]) -> Results:
    """Evaluates sets of a network's variables on a config's data, each image once.

    Raises:
      ValueError: if the network has other classes than the data, or a batch does not divide over the devices.
    """
    facts = _facts(config)
    if facts.num_classes != model.num_classes:
        raise ValueError(
            f"the weights have {model.num_classes} classes and {config.data.dataset} has {facts.num_classes}: "
            "their answers cannot be compared"
        )
    return _evaluated(config, facts, model, sharding.replicate(variables, sharding.make_mesh()))


def _facts(config: TrainConfig) -> DatasetFacts:
    """Opens the data, on processes that have joined."""
    processes.require_joined()
    return processes.first_before_others(lambda: dataset_facts(config.data))


def _evaluated(
    config: TrainConfig, facts: DatasetFacts, model: EfficientNetV2, variables: Mapping[str, Variables]
) -> Results:
    """Evaluates sets of variables that lie on all devices."""
    enable_cache(config.compilation_cache)
    image_size, batch_size = evaluation_sizes(config, model.spec, jax.device_count(), jax.process_count())
    mesh = sharding.make_mesh()
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    step = make_eval_step(model, preprocessing_family(config.data.preprocessing), make_loss(config.loss))
    return evaluate_split(
        jax.jit(step, in_shardings=(whole, divided), out_shardings=whole),
        variables,
        config.data,
        image_size=image_size,
        batch_size=batch_size,
        examples=facts.eval_examples,
        mesh=mesh,
    )
