"""Evaluation that counts each image exactly once: of a run's checkpoint, of given weights, and within a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from effnetv2_jax.data.config import DataConfig, DatasetInfo
from effnetv2_jax.data.dataset import dataset_info
from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.data.pipeline import eval_batches
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables, variable_shapes
from effnetv2_jax.paths import absolute
from effnetv2_jax.train.checkpoint.checkpoints import CHECKPOINTS, Checkpoints
from effnetv2_jax.train.checkpoint.orbax_folder import DamagedCheckpointError
from effnetv2_jax.train.config import TrainConfig, unflatten
from effnetv2_jax.train.derivation import evaluation_sizes, make_model
from effnetv2_jax.train.devices import sharding
from effnetv2_jax.train.devices.compiler import enable_cache
from effnetv2_jax.train.recipe.eval_step import EvalStep, Results, make_eval_step
from effnetv2_jax.train.recipe.losses import make_loss
from effnetv2_jax.train.recipe.step import Batch
from effnetv2_jax.train.run import processes
from effnetv2_jax.train.run_folder.claim import CONFIG
from effnetv2_jax.untrusted_json import MAX_JSON_BYTES, parse_json


def evaluate_split(
    eval_step: EvalStep,
    variables: Mapping[str, Variables],
    data: DataConfig,
    *,
    image_size: int,
    batch_size: int,
    examples: int,
    mesh: jax.sharding.Mesh,
    progress: Callable[[], None] = lambda: None,
) -> Results:
    """Evaluates each set of variables on the evaluation split, on all hosts together; see `evaluate`.

    Args:
      eval_step: the evaluation step, compiled for global batches.
      variables: sets of variables by name.
      data: the configuration of the data.
      image_size: side of the images in pixels.
      batch_size: images in a step, on all hosts together.
      examples: number of images that the split must have.
      mesh: the devices that the batches are divided over.
      progress: called for each batch.

    Raises:
      RuntimeError: if the split has another number of images.
    """
    batches = eval_batches(
        data,
        image_size=image_size,
        batch_size=batch_size // jax.process_count(),
        host_index=jax.process_index(),
        host_count=jax.process_count(),
    )

    def noted(batch: sharding.HostBatch) -> sharding.HostBatch:
        progress()
        return batch

    on_devices = sharding.on_devices(map(noted, batches), sharding.batch_sharded(mesh))
    return evaluate(eval_step, variables, on_devices, examples)


def evaluate(
    eval_step: EvalStep, variables: Mapping[str, Variables], batches: Iterable[Batch], examples: int
) -> Results:
    """Evaluates each set of variables on the batches; an object that has several names is evaluated only once.

    Returns:
      For each name, `top1` and `top5` in per cent, the mean `loss`, and the `count` of images.

    Raises:
      RuntimeError: if the number of images in the batches is not `examples`.
    """
    distinct = {id(values): values for values in variables.values()}
    sums: dict[int, Any] = dict.fromkeys(distinct)
    for batch in batches:
        for key, values in distinct.items():
            counted = eval_step(values, batch)
            sums[key] = counted if sums[key] is None else jax.tree.map(jnp.add, sums[key], counted)
    means = {key: _means(jax.device_get(total), examples) for key, total in sums.items()}
    return {name: means[id(values)] for name, values in variables.items()}


def _means(total: dict[str, np.ndarray] | None, examples: int) -> dict[str, float]:
    count = round(float(total["count"])) if total else 0
    if total is None or count != examples:
        raise RuntimeError(f"evaluation saw {count} images instead of the split's {examples}")
    return {
        "top1": 100.0 * float(total["top1"]) / count,
        "top5": 100.0 * float(total["top5"]) / count,
        "loss": float(total["loss"]) / count,
        "count": float(count),
    }


def evaluate_run(config: TrainConfig, workdir: str, step: int | None = None) -> Results:
    """Evaluates the `raw` weights of a run's checkpoint and, if the run keeps averages, the `averaged` ones.

    Args:
      config: the run's configuration, see `run_config`.
      workdir: the run folder.
      step: the step of the checkpoint; None for the latest.

    Raises:
      FileNotFoundError: if there is no such checkpoint.
      ValueError: if the checkpoint is damaged or belongs to another network than the config's, or a batch does not
        divide over the devices.
    """
    checkpoints = Checkpoints(absolute(workdir) / CHECKPOINTS)
    if not checkpoints.folder.exists():
        raise FileNotFoundError(f"{workdir} contains no run: it has no folder {CHECKPOINTS}")
    try:
        saved = checkpoints.read(step)  # before the data set is opened
    except DamagedCheckpointError as error:
        older = ", ".join(map(str, checkpoints.older(step))) or "none"
        raise ValueError(f"{error}; older checkpoints, for --step: {older}") from error
    info = _opened(config)
    model = make_model(config, info.num_classes)
    weights = sharding.replicate(saved.weights(variable_shapes(model)), sharding.make_mesh())
    return _evaluate_sets(config, info, model, weights)


def run_config(workdir: str) -> TrainConfig:
    """Returns the configuration that a run folder records.

    Raises:
      FileNotFoundError: if it records none.
      ValueError: if the record is damaged, or has fields that this version does not know.
    """
    path = absolute(workdir) / CONFIG
    if not path.exists():
        raise FileNotFoundError(f"{workdir} contains no run: it has no {CONFIG}")
    try:
        with path.open("rb") as file:
            return unflatten(parse_json(file.read(MAX_JSON_BYTES + 1)))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def evaluate_weights(config: TrainConfig, model: EfficientNetV2, variables: Mapping[str, Variables]) -> Results:
    """Evaluates sets of a network's variables on a config's data.

    Raises:
      ValueError: if the numbers of classes differ, or a batch does not divide over the devices.
    """
    info = _opened(config)
    if info.num_classes != model.num_classes:
        raise ValueError(
            f"the weights have {model.num_classes} classes but {config.data.dataset} has {info.num_classes}"
        )
    return _evaluate_sets(config, info, model, sharding.replicate(variables, sharding.make_mesh()))


def _opened(config: TrainConfig) -> DatasetInfo:
    """Opens the data set, on the first process before the others, and returns its dataset info."""
    processes.require_joined()
    return processes.first_before_others(lambda: dataset_info(config.data))


def _evaluate_sets(
    config: TrainConfig, info: DatasetInfo, model: EfficientNetV2, variables: Mapping[str, Variables]
) -> Results:
    """Evaluates sets of variables that are on all devices already."""
    enable_cache(config.compilation_cache)
    image_size, batch_size = evaluation_sizes(config, model.spec, jax.device_count(), jax.process_count())
    mesh = sharding.make_mesh()
    whole, divided = sharding.replicated(mesh), sharding.batch_sharded(mesh)
    step = make_eval_step(
        model,
        preprocessing_family(config.data.preprocessing),
        make_loss(config.loss),
        folds_batch_norm=config.evaluation.fold_batch_norm,
    )
    return evaluate_split(
        jax.jit(step, in_shardings=(whole, divided), out_shardings=whole),
        variables,
        config.data,
        image_size=image_size,
        batch_size=batch_size,
        examples=info.eval_examples,
        mesh=mesh,
    )
