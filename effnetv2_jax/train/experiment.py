"""Everything that follows from a config before any array exists."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import PurePosixPath

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
from effnetv2_jax.train.checkpoint.arrays import digests, named_leaves, whole_digest
from effnetv2_jax.train.config import (
    ABOVE_ZERO_FIELDS,
    FIELDS_ON_REQUEST,
    FREE_FIELDS,
    TrainConfig,
    check_config,
    flatten,
)
from effnetv2_jax.train.devices.sharding import check_batch_size
from effnetv2_jax.train.microbatches import allowed_microbatches
from effnetv2_jax.train.recipe.distillation import Teacher, make_distillation
from effnetv2_jax.train.recipe.frozen import frozen_parameters
from effnetv2_jax.train.recipe.losses import make_loss
from effnetv2_jax.train.recipe.optimizer import l2_in_loss, make_optimizer
from effnetv2_jax.train.recipe.progressive import Stage, make_stages
from effnetv2_jax.train.recipe.schedule import make_schedule
from effnetv2_jax.train.recipe.state import TrainState, create_state
from effnetv2_jax.train.recipe.step import Recipe
from effnetv2_jax.train.report.description import RunDescription
from effnetv2_jax.train.run_folder.changes import ChangeRules
from effnetv2_jax.train.run_folder.claim import RunIdentity
from effnetv2_jax.train.tuned_programs import EVALUATION, TunedProgram, tuned_programs
from effnetv2_jax.train.tuning import Settings, Work


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
      tuned: name of a program → how it is compiled; one that is missing is compiled without options.
      teacher: the network that the run learns from; None if it has none.
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
    tuned: Mapping[str, TunedProgram] = dataclasses.field(default_factory=dict)
    teacher: Teacher | None = None

    @property
    def model(self) -> EfficientNetV2:
        """The network. In training, each stage replaces its dropout and drop path rates."""
        return self.recipe.model

    def settings(self, program: str) -> Settings:
        """Returns how a program is compiled: a stage's, by its name, or that of evaluation."""
        return self.tuned[program].settings if program in self.tuned else Settings()

    def microbatches(self, program: str) -> tuple[int, ...]:
        """Returns the numbers of microbatches of a stage's program to try in turn: the first that fits is taken."""
        return self.tuned[program].choices if program in self.tuned else self.accumulation

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
            tracker=self.config.tracker,
            tracker_project=self.config.tracker_project,
            config=flatten(self.config),
        )

    def identity(self) -> RunIdentity:
        """Returns what identifies the run: what must not change when it is resumed, and what may."""
        return RunIdentity(
            config=flatten(self.config),
            defaults=flatten(TrainConfig()),
            rules=ChangeRules(FREE_FIELDS, FIELDS_ON_REQUEST, ABOVE_ZERO_FIELDS),
            data_origin=self.dataset_info.origin,
            data_sizes=self.dataset_info.sizes,
            teacher=whole_digest(digests(named_leaves(self.teacher.variables))) if self.teacher else "",
            card=self.provenance().to_metadata(),
            stage_ends=tuple(stage.end_step for stage in self.stages),
            settings={name: str(tuned.settings) for name, tuned in self.tuned.items()},
        )

    def tuning_lines(self) -> list[str]:
        """Returns which programs are compiled as a tuning says, and which tuning that is, in lines."""
        origins: dict[str, list[str]] = {}
        for name, tuned in self.tuned.items():
            origins.setdefault(tuned.origin, []).append(name)
        return [f"{', '.join(names)}: compiled as {origin} says" for origin, names in origins.items()]


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


def require_teacher(experiment: Experiment) -> None:
    """Checks that a run whose config names a teacher has it.

    Raises:
      ValueError: if it does not.
    """
    named = experiment.config.distillation.teacher
    if named and experiment.teacher is None:
        raise ValueError(f"distillation.teacher is {named!r}, and its weights were not given")


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


def _public_name(init_from: str) -> str:
    """Returns what a file of weights may tell of those that its training started from: no folder of this machine."""
    return init_from if init_from.startswith("hf://") else PurePosixPath(init_from).name
