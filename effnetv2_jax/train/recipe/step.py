"""One training step, as a function of state and batch that is compiled once for each stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from effnetv2_jax.data.families import PreprocessingFamily
from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.train.recipe import parameter_paths
from effnetv2_jax.train.recipe.losses import Loss, l2_penalty, one_hot
from effnetv2_jax.train.recipe.mixup import mix
from effnetv2_jax.train.recipe.progressive import Stage
from effnetv2_jax.train.recipe.schedule import Schedule
from effnetv2_jax.train.recipe.state import TrainState, ema_decay, update_averages

Batch = Mapping[str, Array]
Metrics = dict[str, Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a batch becomes an update: what all stages of a run have in common.

    Attributes:
      model: the network; a stage replaces its dropout and drop path rates.
      optimizer: turns gradients into updates.
      learning_rate: step → learning rate, the same as the optimiser's; it is reported in the metrics.
      loss: (logits, targets) → each image's loss.
      family: how images are normalised.
      seed: seed of mixing, dropout and drop path.
      weight_decay: weight of the L2 penalty in the loss.
      ema_decay: highest decay of the moving averages; 0 keeps no averages.
      accumulation_steps: number of microbatches that each batch is processed in, one after another.
      frozen: regular expressions for the parameters that the optimiser does not change. A BatchNorm that has such a
        parameter keeps its statistics too.
      skips_bad_steps: whether a step whose loss or gradients are not finite changes nothing but the number of steps.
    """

    model: EfficientNetV2
    optimizer: optax.GradientTransformation
    learning_rate: Schedule
    loss: Loss
    family: PreprocessingFamily
    seed: int
    weight_decay: float = 0.0
    ema_decay: float = 0.0
    accumulation_steps: int = 1
    frozen: tuple[str, ...] = ()
    skips_bad_steps: bool = False


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

    Metrics are float32 scalars: `loss`, its parts `xent` and `l2`, `learning_rate`, `grad_norm`, and `accuracy`, the
    share of images whose largest logit belongs to the class with the largest target. If the recipe skips bad steps,
    `skipped` is 1 for a step that was skipped and 0 for any other.

    Raises:
      ValueError: while tracing, for a batch that does not divide into the microbatches, or a microbatch that does not
        divide into BatchNorm groups.
    """
    model = recipe.model.clone(dropout_rate=stage.dropout_rate, drop_path_rate=stage.drop_path_rate)

    def loss_of(params: Any, batch_stats: Any, images: Array, targets: Array, rng: Array) -> tuple[Array, Any]:
        variables = {"params": params, "batch_stats": batch_stats}
        logits, updates = model.apply(variables, images, train=True, rngs={"dropout": rng}, mutable=["batch_stats"])
        xent, l2 = recipe.loss(logits, targets).mean(), l2_penalty(params, recipe.weight_decay)
        accuracy = jnp.mean((logits.argmax(-1) == targets.argmax(-1)).astype(jnp.float32))
        metrics = {"loss": xent + l2, "xent": xent, "l2": l2, "accuracy": accuracy}
        return xent + l2, (updates["batch_stats"], metrics)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        images, targets = prepare(recipe, stage, batch, state.step)
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(recipe.seed), state.step), 1)
        grads, batch_stats, metrics = _accumulated(
            jax.grad(loss_of, has_aux=True), state, images, targets, rng, recipe.accumulation_steps
        )
        metrics |= {"learning_rate": recipe.learning_rate(state.step), "grad_norm": optax.tree.norm(grads)}
        updated = _updated(recipe, state, grads, batch_stats)
        if recipe.skips_bad_steps:
            good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
            updated = _unless_bad(good, updated, state)
            metrics |= {"skipped": 1.0 - good.astype(jnp.float32)}
        return updated, metrics

    return train_step


def _accumulated(
    grad: Callable[..., Any], state: TrainState, images: Array, targets: Array, rng: Array, microbatches: int
) -> tuple[Any, Any, Metrics]:
    """Processes a batch in a number of microbatches, one after another.

    Returns:
      The mean gradients, the statistics after the last microbatch, and the mean metrics.
    """
    if microbatches == 1:
        grads, (batch_stats, metrics) = grad(state.params, state.batch_stats, images, targets, rng)
        return grads, batch_stats, metrics
    if images.shape[0] % microbatches:
        raise ValueError(f"a batch of {images.shape[0]} does not divide into {microbatches} accumulation steps")

    def split(x: Array) -> Array:  # microbatches are strided, so that images stay on their device
        return x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1)

    def body(carry: Any, microbatch: tuple[Array, Array, Array]) -> tuple[Any, Metrics]:
        total, batch_stats = carry
        micro_images, micro_targets, index = microbatch
        micro_rng = jax.random.fold_in(rng, index)
        grads, (batch_stats, metrics) = grad(state.params, batch_stats, micro_images, micro_targets, micro_rng)
        return (jax.tree.map(jnp.add, total, grads), batch_stats), metrics

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    xs = (split(images), split(targets), jnp.arange(microbatches))
    (total, batch_stats), metrics = jax.lax.scan(body, (zeros, state.batch_stats), xs)
    return jax.tree.map(lambda g: g / microbatches, total), batch_stats, jax.tree.map(lambda m: m.mean(0), metrics)


def _updated(recipe: Recipe, state: TrainState, grads: Any, batch_stats: Any) -> TrainState:
    updates, opt_state = recipe.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if recipe.frozen:
        batch_stats = _held(batch_stats, state.batch_stats, state.params, recipe.frozen)
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


def _held(new: Any, old: Any, params: Any, frozen: tuple[str, ...]) -> Any:
    """Returns the new statistics, but the old ones for each BatchNorm that has a frozen parameter."""
    layers = {path.rpartition("/")[0] for path in parameter_paths.matching(params, frozen)}
    kept = parameter_paths.flatten(old)
    return parameter_paths.unflatten(
        {
            path: kept[path] if path.rpartition("/")[0] in layers else leaf
            for path, leaf in parameter_paths.flatten(new).items()
        }
    )
