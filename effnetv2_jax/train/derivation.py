"""From a config to the experiment: what follows from its fields, from the data's sizes and from the devices."""

from __future__ import annotations

import dataclasses

from effnetv2_jax.data.config import DatasetInfo
from effnetv2_jax.data.dataset import dataset_info
from effnetv2_jax.data.host_rows import host_rows
from effnetv2_jax.data.images.families import preprocessing_family
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2, create_model
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variables import variable_shapes
from effnetv2_jax.train.config import TrainConfig, check_config
from effnetv2_jax.train.devices.sharding import check_batch_size
from effnetv2_jax.train.experiment import Experiment
from effnetv2_jax.train.microbatches import allowed_microbatches
from effnetv2_jax.train.recipe.distillation import Teacher, make_distillation
from effnetv2_jax.train.recipe.frozen import frozen_parameters
from effnetv2_jax.train.recipe.losses import make_loss
from effnetv2_jax.train.recipe.optimizer import l2_in_loss, make_optimizer
from effnetv2_jax.train.recipe.progressive import make_stages
from effnetv2_jax.train.recipe.schedule import make_schedule
from effnetv2_jax.train.recipe.step import Recipe
from effnetv2_jax.train.tuned_programs import tuned_programs


def make_experiment(
    config: TrainConfig,
    devices: int,
    processes: int = 1,
    info: DatasetInfo | None = None,
    device: str = "",
    teacher: Teacher | None = None,
) -> Experiment:
    """Derives a run from its configuration.

    Args:
      config: the configuration.
      devices: number of devices, of all processes together.
      processes: number of processes.
      info: the dataset info; None reads it from the data set.
      device: name of the devices, see `device_name`; "" if nothing will be compiled for them, which leaves out
        `config.tuning`.
      teacher: the network that the config names as its teacher; None leaves it out.

    Raises:
      ValueError: for a field that is out of range or does not fit the others; the message says what is allowed.
      FileNotFoundError: if the data does not exist.
    """
    check_config(config)
    config = with_parts(dataclasses.replace(config, model=config.model.without_file()), processes)
    check_batch_size("batch_size", config.batch_size, devices, processes)
    host_rows(config.batch_size, config.data.parts, 0, processes)
    spec = config.model.spec()
    eval_size, eval_batch_size = evaluation_sizes(config, spec, devices, processes)
    info = info or dataset_info(config.data, for_training=True)
    steps_per_epoch = info.train_examples / config.batch_size
    total_steps = config.steps or max(config.min_steps, int(config.epochs * info.train_examples) // config.batch_size)
    if total_steps < 1:
        raise ValueError(
            f"{config.epochs:g} epochs of {info.train_examples:,} training images do not fill a batch of "
            f"{config.batch_size:,}: reduce batch_size, or raise epochs or steps"
        )
    stages = make_stages(config.progressive, spec, total_steps, steps_per_epoch)
    experiment = Experiment(
        config=config,
        dataset_info=info,
        spec=spec,
        recipe=_recipe(config, info, steps_per_epoch, total_steps, teacher),
        stages=stages,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        accumulation=allowed_microbatches(config, devices),
        eval_size=eval_size,
        eval_batch_size=eval_batch_size,
        evaluate_every=_steps(config.evaluation.every_epochs, steps_per_epoch),
        checkpoint_every=_steps(config.checkpoint.every_epochs, steps_per_epoch),
        teacher=teacher,
    )
    tuned = tuned_programs(config, spec, experiment.work(devices), devices, device)
    return dataclasses.replace(experiment, tuned=tuned)


def with_parts(config: TrainConfig, parts: int) -> TrainConfig:
    """Returns a config with this number of parts of the training split, if it leaves the number to the run."""
    if config.data.parts:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, parts=parts))


def evaluation_sizes(config: TrainConfig, spec: ModelSpec, devices: int, processes: int = 1) -> tuple[int, int]:
    """Returns the side of the evaluation images in pixels, and the global batch size of evaluation.

    Raises:
      ValueError: if the images are too small for the network, or the batch does not divide over the devices.
    """
    image_size = config.evaluation.image_size or _default_eval_size(config, spec)
    if image_size < spec.minimum_image_size:
        raise ValueError(
            f"{spec.name} needs images of at least {spec.minimum_image_size} px, got evaluation.image_size {image_size}"
        )
    batch_size = config.evaluation.batch_size or config.batch_size
    check_batch_size("evaluation.batch_size", batch_size, devices, processes)
    return image_size, batch_size


def _default_eval_size(config: TrainConfig, spec: ModelSpec) -> int:
    """Returns the size of the last stage if the config chooses the stages' sizes, else the variant's own."""
    own_stages = config.progressive.preset == "custom" and config.progressive.image_size
    return config.progressive.image_size[-1] if own_stages else spec.eval_size


def make_model(config: TrainConfig, num_classes: int) -> EfficientNetV2:
    """Creates the network of a config, with the fast gradients of convolutions on a CPU.

    Raises:
      ValueError: for a field of `model` that is out of range.
    """
    return create_model(
        config.model.spec(),
        num_classes=num_classes,
        dtype=config.model.dtype,
        padding=config.model.padding or None,
        bn_momentum=config.model.bn_momentum,
        bn_epsilon=config.model.bn_epsilon,
        bn_group_size=config.model.bn_group_size,
        remat=config.model.remat,
        fast_cpu_gradients=True,
        fast_tpu_gradients=config.model.fast_tpu_gradients,
    )


def _recipe(
    config: TrainConfig, info: DatasetInfo, steps_per_epoch: float, total_steps: int, teacher: Teacher | None
) -> Recipe:
    model = make_model(config, info.num_classes)
    rate = make_schedule(
        config.optimizer.schedule,
        batch_size=config.batch_size,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
    )
    shapes = variable_shapes(model)["params"]
    frozen = frozen_parameters(config.optimizer.frozen, config.optimizer.frozen_rows, model.spec, shapes)
    return Recipe(
        model=model,
        optimizer=make_optimizer(config.optimizer, rate, model.spec, shapes, frozen),
        learning_rate=rate,
        loss=make_loss(config.loss),
        family=preprocessing_family(config.data.preprocessing),
        seed=config.seed,
        weight_decay=l2_in_loss(config.optimizer),
        ema_decay=config.ema_decay,
        frozen=frozen,
        distillation=make_distillation(config.distillation, teacher, info.num_classes),
        skips_bad_steps=config.optimizer.max_bad_steps > 0,
    )


def _steps(epochs: float, steps_per_epoch: float) -> int:
    """Converts an interval from epochs to steps, at least one; 0 means never and stays 0."""
    return max(1, round(epochs * steps_per_epoch)) if epochs else 0
