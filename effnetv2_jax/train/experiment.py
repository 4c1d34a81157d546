"""Everything that follows from a config before any array exists."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from effnetv2_jax.data.families import preprocessing_family
from effnetv2_jax.data.host_rows import host_rows
from effnetv2_jax.data.pipeline import DatasetFacts, dataset_facts
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2, create_model
from effnetv2_jax.model.initializers import variable_shapes
from effnetv2_jax.model.provenance import Provenance
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.config import TrainConfig
from effnetv2_jax.train.devices.memory import accumulation_choices
from effnetv2_jax.train.devices.sharding import check_batch_size, check_group_size, groups_fit
from effnetv2_jax.train.recipe.losses import make_loss
from effnetv2_jax.train.recipe.optimizer import l2_in_loss, make_optimizer
from effnetv2_jax.train.recipe.progressive import Stage, make_stages
from effnetv2_jax.train.recipe.schedule import make_schedule
from effnetv2_jax.train.recipe.state import TrainState, Variables, create_state
from effnetv2_jax.train.recipe.step import Recipe


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run, worked out: its data, model, stages and recipe, and its durations in steps.

    `accumulation` holds the numbers of microbatches to try, in turn until a stage's step fits the memory.
    """

    config: TrainConfig
    facts: DatasetFacts
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

    @property
    def model(self) -> EfficientNetV2:
        """The network, as evaluated."""
        return self.recipe.model

    def initial_state(self, variables: Variables) -> TrainState:
        """Returns the state before step 0 of the model's variables."""
        return create_state(variables, self.recipe.optimizer, averaged=self.config.ema_decay > 0)

    def abstract_state(self) -> TrainState:
        """Returns the shapes of the state."""
        return jax.eval_shape(self.initial_state, variable_shapes(self.model))

    def provenance(self) -> Provenance:
        """Returns what the run's weights are."""
        return Provenance(
            spec=self.spec,
            num_classes=self.facts.num_classes,
            padding=self.model.padding,
            bn_epsilon=self.model.bn_epsilon,
            preprocessing=self.config.data.preprocessing,
            eval_size=self.eval_size,
            eval_crop=self.config.data.eval_crop,
            class_names=self.facts.class_names,
            label_set=self.config.data.dataset,
        )

    def abstract_batch(
        self, batch_size: int, image_size: int, *, masked: bool = False
    ) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of a batch: `image`, `label`, and `mask` where the batch is one of evaluation."""
        label = (batch_size, self.facts.num_classes) if self.facts.multi_hot else (batch_size,)
        batch = {
            "image": jax.ShapeDtypeStruct((batch_size, image_size, image_size, 3), jnp.uint8),
            "label": jax.ShapeDtypeStruct(label, jnp.float32 if self.facts.multi_hot else jnp.int32),
        }
        return batch | ({"mask": jax.ShapeDtypeStruct((batch_size,), jnp.float32)} if masked else {})


def make_experiment(
    config: TrainConfig, devices: int, processes: int = 1, facts: DatasetFacts | None = None
) -> Experiment:
    """Works out a run on a number of devices, of all processes together.

    `facts` of the data are asked of the data itself unless given.

    Raises:
      ValueError: for a field that is out of range or does not fit the others; the message says what is allowed.
      FileNotFoundError: if the data is not there.
    """
    _check_numbers(config)
    check_batch_size("batch_size", config.batch_size, devices, processes)
    host_rows(config.batch_size, config.data.parts, 0, processes)
    spec = config.model.spec()
    eval_size, eval_batch_size = evaluation_sizes(config, spec, devices, processes)
    facts = facts or dataset_facts(config.data)
    steps_per_epoch = facts.train_examples / config.batch_size
    total_steps = config.steps or max(config.min_steps, int(config.epochs * facts.train_examples) // config.batch_size)
    stages = make_stages(config.progressive, spec, total_steps)
    return Experiment(
        config=config,
        facts=facts,
        spec=spec,
        recipe=_recipe(config, facts, steps_per_epoch, total_steps),
        stages=stages,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        accumulation=_accumulation(config, devices),
        eval_size=eval_size,
        eval_batch_size=eval_batch_size,
        evaluate_every=_steps(config.evaluation.every_epochs, steps_per_epoch),
        checkpoint_every=_steps(config.checkpoint.every_epochs, steps_per_epoch),
    )


def evaluation_sizes(config: TrainConfig, spec: ModelSpec, devices: int, processes: int = 1) -> tuple[int, int]:
    """Returns the side of evaluation's images in pixels and its global batch size.

    Raises:
      ValueError: if the images are too small for the network, or the batch does not divide over the devices.
    """
    image_size = config.evaluation.image_size or spec.eval_size
    if image_size < spec.minimum_image_size:
        raise ValueError(
            f"{spec.name} needs images of at least {spec.minimum_image_size} px, evaluation.image_size is {image_size}"
        )
    batch_size = config.evaluation.batch_size or config.batch_size
    check_batch_size("evaluation.batch_size", batch_size, devices, processes)
    return image_size, batch_size


def make_model(config: TrainConfig, num_classes: int) -> EfficientNetV2:
    """Creates the network of a config."""
    fields: dict[str, Any] = {
        name: getattr(config.model, name)
        for name in ("padding", "bn_momentum", "bn_epsilon")
        if getattr(config.model, name) not in ("", None)
    }
    if config.model.dtype not in ("float32", "bfloat16"):
        raise ValueError(f"model.dtype must be float32 or bfloat16, got {config.model.dtype!r}")
    return create_model(
        config.model.spec(),
        num_classes=num_classes,
        dtype=config.model.dtype,
        bn_group_size=config.model.bn_group_size,
        remat=tuple(config.model.remat),
        **fields,
    )


def _recipe(config: TrainConfig, facts: DatasetFacts, steps_per_epoch: float, total_steps: int) -> Recipe:
    model = make_model(config, facts.num_classes)
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
    )


def _accumulation(config: TrainConfig, devices: int) -> tuple[int, ...]:
    """Returns the numbers of microbatches that the config allows."""
    batch_size, group_size = config.batch_size, config.model.bn_group_size
    choices = accumulation_choices(batch_size, devices)
    if config.accumulation_steps == "auto":
        check_group_size(group_size, batch_size, devices)
        return tuple(parts for parts in choices if groups_fit(group_size, batch_size // parts, devices))
    try:
        parts = int(config.accumulation_steps)
    except ValueError:
        raise ValueError(f"accumulation_steps must be a number or 'auto', got {config.accumulation_steps!r}") from None
    if parts not in choices:
        raise ValueError(
            f"accumulation_steps {parts} does not divide the batch_size {batch_size} into whole images on each "
            f"of {devices} devices; those that do: {', '.join(map(str, choices))}"
        )
    check_group_size(group_size, batch_size // parts, devices)
    return (parts,)


def _steps(epochs: float, steps_per_epoch: float) -> int:
    """Returns a duration in steps, at least one; 0 for 0 epochs, which means never."""
    return max(1, round(epochs * steps_per_epoch)) if epochs else 0


def _check_numbers(config: TrainConfig) -> None:
    least = {
        "batch_size": 1, "device_memory_gib": 0, "epochs": 0, "min_steps": 0, "steps": 0, "ema_decay": 0,
        "log_every_steps": 1, "evaluation.every_epochs": 0, "evaluation.image_size": 0, "evaluation.batch_size": 0,
        "checkpoint.every_epochs": 0, "checkpoint.keep": 1, "model.bn_group_size": 0,
    }  # fmt: skip
    for name, minimum in least.items():
        value = functools.reduce(getattr, name.split("."), config)
        if not minimum <= value < math.inf:  # type: ignore[operator]
            raise ValueError(f"{name} must be at least {minimum}, got {value}")
    if config.ema_decay >= 1:
        raise ValueError(f"ema_decay must be less than 1, got {config.ema_decay}")
    if config.evaluation.weights not in ("averaged", "raw"):
        raise ValueError(f"evaluation.weights must be 'averaged' or 'raw', got {config.evaluation.weights!r}")
