"""One training step, as a function of state and batch that is compiled once for each stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from effnetv2_jax.data.images.families import PreprocessingFamily
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables
from effnetv2_jax.train.recipe import parameter_paths
from effnetv2_jax.train.recipe.distillation import Distillation
from effnetv2_jax.train.recipe.frozen import all_but_classifier, fixed_norms, kept
from effnetv2_jax.train.recipe.losses import Loss, l2_penalty, one_hot
from effnetv2_jax.train.recipe.mixup import mix
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.schedule import Schedule
from effnetv2_jax.train.recipe.state import TrainState, ema_decay, update_averages

Batch = Mapping[str, Array]
Metrics = dict[str, Array]
TrainStep = Callable[..., tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a batch becomes an update: what all stages of a run have in common.

    Attributes:
      model: the network; a stage replaces its dropout and drop path rates.
      optimizer: turns gradients into updates.
      learning_rate: step → learning rate, the same as the optimiser's; it is reported in the metrics.
      loss: (logits, targets) → each image's loss.
      family: how images are normalised.
      seed: seed of mixing, dropout and drop path; in a program that serves any seed, an argument of it.
      weight_decay: weight of the L2 penalty in the loss.
      ema_decay: highest decay of the moving averages; 0 keeps no averages.
      accumulation_steps: number of microbatches that each batch is processed in, one after another.
      frozen: paths of the parameters that keep their values in the whole run. A BatchNorm that has such a parameter
        normalises with its moving averages and keeps them.
      distillation: how the run learns from a teacher; None for a run without one.
      skips_bad_steps: whether a step whose loss or gradients are not finite changes nothing but the number of steps.
    """

    model: EfficientNetV2
    optimizer: optax.GradientTransformation
    learning_rate: Schedule
    loss: Loss
    family: PreprocessingFamily
    seed: int | Array
    weight_decay: float = 0.0
    ema_decay: float = 0.0
    accumulation_steps: int = 1
    frozen: frozenset[str] = frozenset()
    distillation: Distillation | None = None
    skips_bad_steps: bool = False

    def held(self, stage: Stage, params: Any) -> frozenset[str]:
        """Returns the paths of the parameters that keep their values in a stage."""
        return self.frozen | all_but_classifier(params) if stage.head_only else self.frozen


def normalize(images: Array, family: PreprocessingFamily) -> Array:
    """Normalises uint8 images `[N, H, W, 3]` to float32 with the family's mean and standard deviation."""
    mean, std = (jnp.asarray(values, jnp.float32)[None, None, None, :] for values in (family.mean, family.std))
    return (images.astype(jnp.float32) - mean) / std


def prepare(recipe: Recipe, stage: Stage, batch: Batch, step: Array) -> tuple[Array, Array]:
    """Returns the normalised and mixed images `[N, H, W, 3]` and targets `[N, classes]` of a step, float32."""
    rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(recipe.seed), step), 0)
    images = normalize(batch["image"], recipe.family)
    targets = one_hot(batch["label"], recipe.model.num_classes)
    return mix(rng, images, targets, stage.mixup_alpha, stage.cutmix_alpha)


def make_train_step(recipe: Recipe, stage: Stage) -> TrainStep:
    """Returns (state, {"image": uint8 `[N, H, W, 3]`, "label": `[N]` or `[N, classes]`}) → (state, metrics).

    With a teacher, its variables are a third argument.

    Metrics are float32 scalars: `loss`, its parts `xent`, `distillation` (with a teacher) and `l2`, `learning_rate`,
    `grad_norm`, which is that of the parameters that are trained, and `accuracy`, the share of images whose largest
    logit belongs to the class with the largest target. If the recipe skips bad steps, `skipped` is 1 for a step that
    was skipped and 0 for any other.

    Raises:
      ValueError: while tracing, for a batch that does not divide into the microbatches, or a microbatch that does not
        divide into BatchNorm groups.
    """

    def train_step(state: TrainState, batch: Batch, *teacher: Variables) -> tuple[TrainState, Metrics]:
        held = recipe.held(stage, state.params)
        trained, fixed = parameter_paths.split(state.params, held) if held else (state.params, {})
        model = recipe.model.clone(
            dropout_rate=stage.dropout_rate, drop_path_rate=stage.drop_path_rate, fixed_norms=fixed_norms(held)
        )

        def loss_of(trained: Any, batch_stats: Any, images: Array, targets: Array, rng: Array) -> tuple[Array, Any]:
            params = parameter_paths.merged(trained, fixed) if held else trained
            variables = {"params": params, "batch_stats": batch_stats}
            logits, updates = model.apply(variables, images, train=True, rngs={"dropout": rng}, mutable=["batch_stats"])
            xent, l2 = recipe.loss(logits, targets).mean(), l2_penalty(params, recipe.weight_decay)
            loss, parts = xent, {"xent": xent}
            if recipe.distillation:
                distance = recipe.distillation.loss(logits, images, recipe.family, *teacher).mean()
                share = recipe.distillation.weight
                loss, parts = (1.0 - share) * xent + share * distance, {"xent": xent, "distillation": distance}
            accuracy = jnp.mean((logits.argmax(-1) == targets.argmax(-1)).astype(jnp.float32))
            metrics = {"loss": loss + l2, **parts, "l2": l2, "accuracy": accuracy}
            return loss + l2, (updates["batch_stats"], metrics)

        images, targets = prepare(recipe, stage, batch, state.step)
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(recipe.seed), state.step), 1)
        grads, batch_stats, metrics = _accumulated(
            jax.grad(loss_of, has_aux=True), trained, state.batch_stats, images, targets, rng, recipe.accumulation_steps
        )
        metrics |= {"learning_rate": recipe.learning_rate(state.step), "grad_norm": optax.tree.norm(grads)}
        if held:
            grads = parameter_paths.merged(grads, jax.tree.map(jnp.zeros_like, fixed))
        updated = _updated(recipe, state, grads, batch_stats, held)
        if recipe.skips_bad_steps:
            good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
            updated = _unless_bad(good, updated, state)
            metrics |= {"skipped": 1.0 - good.astype(jnp.float32)}
        return updated, metrics

    return train_step


def _accumulated(
    grad: Callable[..., Any],
    params: Any,
    batch_stats: Any,
    images: Array,
    targets: Array,
    rng: Array,
    microbatches: int,
) -> tuple[Any, Any, Metrics]:
    """Processes a batch in a number of microbatches, one after another.

    Returns:
      The mean gradients, the statistics after the last microbatch, and the mean metrics.
    """
    if microbatches == 1:
        grads, (batch_stats, metrics) = grad(params, batch_stats, images, targets, rng)
        return grads, batch_stats, metrics
    if images.shape[0] % microbatches:
        raise ValueError(f"a batch of {images.shape[0]} does not divide into {microbatches} accumulation steps")

    def split(x: Array) -> Array:  # microbatches are strided, so that images stay on their device
        return x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1)

    def body(carry: Any, microbatch: tuple[Array, Array, Array]) -> tuple[Any, Metrics]:
        total, batch_stats = carry
        micro_images, micro_targets, index = microbatch
        micro_rng = jax.random.fold_in(rng, index)
        grads, (batch_stats, metrics) = grad(params, batch_stats, micro_images, micro_targets, micro_rng)
        return (jax.tree.map(jnp.add, total, grads), batch_stats), metrics

    zeros = jax.tree.map(jnp.zeros_like, params)
    xs = (split(images), split(targets), jnp.arange(microbatches))
    (total, batch_stats), metrics = jax.lax.scan(body, (zeros, batch_stats), xs)
    return jax.tree.map(lambda g: g / microbatches, total), batch_stats, jax.tree.map(lambda m: m.mean(0), metrics)


def _updated(recipe: Recipe, state: TrainState, grads: Any, batch_stats: Any, held: frozenset[str]) -> TrainState:
    """Returns the state after an update; the parameters `held` and all that the optimiser knows of them stay."""
    updates, opt_state = recipe.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if held:
        params, opt_state = kept(params, state.params, held), kept(opt_state, state.opt_state, held)
    step = state.step + 1
    ema_params, ema_batch_stats = state.ema_params, state.ema_batch_stats
    if recipe.ema_decay:
        decay = ema_decay(recipe.ema_decay, step)
        ema_params = update_averages(ema_params, params, decay)
        ema_batch_stats = update_averages(ema_batch_stats, batch_stats, decay)
    return TrainState(step, params, batch_stats, opt_state, ema_params, ema_batch_stats)


def _unless_bad(good: Array, new: TrainState, old: TrainState) -> TrainState:
    """Returns the new state if the step is good; if not, the old one, with only the step and the schedule gone on.

    `optax.apply_if_finite` would not do: it holds back the parameters' updates and the optimiser's state alone, while
    the BatchNorm statistics and the averages would take the bad step; it would halt the optimiser's schedule; and above
    its limit it accepts bad updates.
    """

    def chosen(after: Any, before: Any) -> Any:
        if isinstance(after, optax.ScaleByScheduleState):  # it counts steps, as `TrainState.step` does
            return after
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), after, before)

    kept = jax.tree.map(chosen, new, old, is_leaf=lambda node: isinstance(node, optax.ScaleByScheduleState))
    return kept.replace(step=new.step)
