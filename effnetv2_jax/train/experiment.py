"""Everything that follows from a config before any array exists."""

from __future__ import annotations

import dataclasses
from pathlib import PurePosixPath
from typing import Any

import jax
import jax.numpy as jnp

from effnetv2_jax.data.config import DatasetInfo
from effnetv2_jax.data.dataset import dataset_info
from effnetv2_jax.data.description import describe_training_images
from effnetv2_jax.data.families import preprocessing_family
from effnetv2_jax.data.host_rows import host_rows
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2, create_model
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variables import Variables, variable_shapes
from effnetv2_jax.train.config import (
    ABOVE_ZERO_FIELDS,
    FIELDS_ON_REQUEST,
    FREE_FIELDS,
    TrainConfig,
    check_config,
    flatten,
)
from effnetv2_jax.train.devices.memory import accumulation_choices, automatic_choices
from effnetv2_jax.train.devices.sharding import check_batch_size, check_group_size, groups_fit
from effnetv2_jax.train.recipe.losses import make_loss
from effnetv2_jax.train.recipe.optimizer import l2_in_loss, make_optimizer
from effnetv2_jax.train.recipe.progressive import Stage, make_stages
from effnetv2_jax.train.recipe.schedule import make_schedule
from effnetv2_jax.train.recipe.state import TrainState, create_state
from effnetv2_jax.train.recipe.step import Recipe
from effnetv2_jax.train.report.description import RunDescription
from effnetv2_jax.train.run_folder.changes import ChangeRules
from effnetv2_jax.train.run_folder.claim import RunIdentity
from effnetv2_jax.train.tuning import Settings, Tuning, Work, read_tuning

EVALUATION = "evaluation"
"""The name of the evaluation step's program."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run with everything that follows from its configuration.

    Attributes:
      config: the configuration.
      dataset_info: classes and sizes of the data set.
      spec: the network's architecture.
      recipe: how a batch becomes an update.
      stages: the stages, in order.
      steps_per_epoch: steps in one pass over the training split; not always a whole number.
      total_steps: number of steps in the run.
      accumulation: numbers of microbatches to try, ascending; a stage takes the first that fits the memory.
      eval_size: side of the evaluation images in pixels.
      eval_batch_size: images in an evaluation step, on all devices together.
      evaluate_every: steps between two evaluations; 0 for none before the end.
      checkpoint_every: steps between two checkpoints; 0 for none besides those after an evaluation or a stage.
      tuning: how the programs are compiled; None compiles them without options.
    """

    config: TrainConfig
    dataset_info: DatasetInfo
    spec: ModelSpec
    recipe: Recipe
    stages: tuple[Stage, ...]
    steps_per_epoch: float
    total_steps: int
    accumulation: tuple[int, ...]
    eval_size: int
    eval_batch_size: int
    evaluate_every: int
    checkpoint_every: int
    tuning: Tuning | None = None

    @property
    def model(self) -> EfficientNetV2:
        """The network. In training, each stage replaces its dropout and drop path rates."""
        return self.recipe.model

    def settings(self, program: str) -> Settings:
        """Returns how a program is compiled: a stage's, by its name, or that of evaluation."""
        return self.tuning.settings[program] if self.tuning else Settings()

    def microbatches(self, program: str) -> tuple[int, ...]:
        """Returns the numbers of microbatches of a stage's program to try in turn: the first that fits is taken."""
        tuned = self.tuning and self.tuning.settings[program].microbatches
        return tuple(count for count in self.accumulation if not tuned or count >= tuned)

    def work(self, devices: int) -> dict[str, Work]:
        """Returns what each program computes: name → the images of a step on one of some devices."""
        return {
            **{stage.name: Work(stage.image_size, self.config.batch_size // devices) for stage in self.stages},
            EVALUATION: Work(self.eval_size, self.eval_batch_size // devices),
        }

    def initial_state(self, variables: Variables) -> TrainState:
        """Returns the state before step 0, with the given variables of the model."""
        return create_state(variables, self.recipe.optimizer, averaged=self.config.ema_decay > 0)

    def abstract_state(self) -> TrainState:
        """Returns the shapes of the state, as `jax.ShapeDtypeStruct`."""
        return jax.eval_shape(self.initial_state, variable_shapes(self.model))

    def provenance(self) -> Provenance:
        """Returns the provenance of the run's weights."""
        return Provenance(
            spec=self.spec,
            num_classes=self.dataset_info.num_classes,
            padding=self.model.padding,
            bn_epsilon=self.model.bn_epsilon,
            preprocessing=self.config.data.preprocessing,
            eval_size=self.eval_size,
            eval_crop=self.config.data.eval_crop,
            class_names=self.dataset_info.class_names,
            label_set=self.config.data.dataset,
            started_from=_public_name(self.config.init_from),
        )

    def abstract_batch(
        self, batch_size: int, image_size: int, *, masked: bool = False
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of a batch: `image`, `label`, and `mask` if the batch is for evaluation."""
        label = (batch_size, self.dataset_info.num_classes) if self.dataset_info.multi_hot else (batch_size,)
        batch = {
            "image": jax.ShapeDtypeStruct((batch_size, image_size, image_size, 3), jnp.uint8),
            "label": jax.ShapeDtypeStruct(label, jnp.float32 if self.dataset_info.multi_hot else jnp.int32),
        }
        return batch | ({"mask": jax.ShapeDtypeStruct((batch_size,), jnp.float32)} if masked else {})

    def description(self) -> RunDescription:
        """Returns the properties that the run's reports show."""
        return RunDescription(
            recipe=self.recipe,
            stages=self.stages,
            dataset=self.config.data.dataset,
            dataset_info=self.dataset_info,
            augmentation=self.config.data.augmentation,
            training_images=describe_training_images(self.config.data),
            batch_size=self.config.batch_size,
            steps_per_epoch=self.steps_per_epoch,
            eval_size=self.eval_size,
            reported_weights=self.config.evaluation.weights,
        )

    def identity(self) -> RunIdentity:
        """Returns what identifies the run: what must not change when it is resumed, and what may."""
        return RunIdentity(
            config=flatten(self.config),
            defaults=flatten(TrainConfig()),
            rules=ChangeRules(FREE_FIELDS, FIELDS_ON_REQUEST, ABOVE_ZERO_FIELDS),
            data_origin=self.dataset_info.origin,
            data_sizes=self.dataset_info.sizes,
            card=self.provenance().to_metadata(),
            stage_ends=tuple(stage.end_step for stage in self.stages),
        )


def make_experiment(
    config: TrainConfig, devices: int, processes: int = 1, info: DatasetInfo | None = None
) -> Experiment:
    """Derives a run from its configuration.

    Args:
      config: the configuration.
      devices: number of devices, of all processes together.
      processes: number of processes.
      info: the dataset info; None reads it from the data set.

    Raises:
      ValueError: for a field that is out of range or does not fit the others; the message says what is allowed.
      FileNotFoundError: if the data does not exist.
    """
    check_config(config)
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
    stages = make_stages(config.progressive, spec, total_steps)
    experiment = Experiment(
        config=config,
        dataset_info=info,
        spec=spec,
        recipe=_recipe(config, info, steps_per_epoch, total_steps),
        stages=stages,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        accumulation=_accumulation(config, devices),
        eval_size=eval_size,
        eval_batch_size=eval_batch_size,
        evaluate_every=_steps(config.evaluation.every_epochs, steps_per_epoch),
        checkpoint_every=_steps(config.checkpoint.every_epochs, steps_per_epoch),
    )
    if not config.tuning:
        return experiment
    tuning = read_tuning(config.tuning)
    tuning.check(config.tuning, tuned_fields(config), experiment.work(devices))
    for stage in stages:
        settings = tuning.settings[stage.name]
        if settings.microbatches not in experiment.accumulation or not set(settings.remat) <= set(
            range(len(spec.rows))
        ):
            raise ValueError(f"{config.tuning} does not fit the run: {stage.name} has {settings}")
    return dataclasses.replace(experiment, tuning=tuning)


def tuned_fields(config: TrainConfig) -> dict[str, Any]:
    """Returns the fields of the network's configuration that a tuning depends on."""
    return {
        name.removeprefix("model."): value
        for name, value in flatten(config).items()
        if name.startswith("model.") and name != "model.remat"
    }


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
    )


def _recipe(config: TrainConfig, info: DatasetInfo, steps_per_epoch: float, total_steps: int) -> Recipe:
    model = make_model(config, info.num_classes)
    rate = make_schedule(
        config.optimizer.schedule,
        batch_size=config.batch_size,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
    )
    shapes = variable_shapes(model)["params"]
    return Recipe(
        model=model,
        optimizer=make_optimizer(config.optimizer, rate, shapes),
        learning_rate=rate,
        loss=make_loss(config.loss),
        family=preprocessing_family(config.data.preprocessing),
        seed=config.seed,
        weight_decay=l2_in_loss(config.optimizer),
        ema_decay=config.ema_decay,
        frozen=config.optimizer.frozen,
        skips_bad_steps=config.optimizer.max_bad_steps > 0,
    )


def possible_microbatches(config: TrainConfig, devices: int) -> tuple[int, ...]:
    """Returns all numbers of microbatches with whole images on each device, and whole groups for BatchNorm.

    Raises:
      ValueError: if the groups do not fit the whole batch.
    """
    batch_size, group_size = config.batch_size, config.model.bn_group_size
    check_group_size(group_size, batch_size, devices)
    choices = accumulation_choices(batch_size, devices)
    return tuple(count for count in choices if groups_fit(group_size, batch_size // count, devices))


def _accumulation(config: TrainConfig, devices: int) -> tuple[int, ...]:
    """Returns the numbers of microbatches that the config allows."""
    batch_size, group_size = config.batch_size, config.model.bn_group_size
    if config.tuning:
        return possible_microbatches(config, devices)
    if config.accumulation_steps == "auto":
        choices = possible_microbatches(config, devices)
        return automatic_choices(choices, batch_size // devices, group_size // devices)
    choices = accumulation_choices(batch_size, devices)
    try:
        microbatches = int(config.accumulation_steps)
    except ValueError:
        raise ValueError(f"accumulation_steps must be a number or 'auto', got {config.accumulation_steps!r}") from None
    if microbatches not in choices:
        raise ValueError(
            f"accumulation_steps {microbatches} does not divide batch_size {batch_size} into whole images on each of "
            f"{devices} devices; allowed: {', '.join(map(str, choices))}"
        )
    check_group_size(group_size, batch_size // microbatches, devices)
    return (microbatches,)


def _steps(epochs: float, steps_per_epoch: float) -> int:
    """Converts an interval from epochs to steps, at least one; 0 means never and stays 0."""
    return max(1, round(epochs * steps_per_epoch)) if epochs else 0


def _public_name(init_from: str) -> str:
    """Returns what a file of weights may tell of those that its training started from: no folder of this machine."""
    return init_from if init_from.startswith("hf://") else PurePosixPath(init_from).name
