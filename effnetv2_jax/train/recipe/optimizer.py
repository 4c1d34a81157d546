"""Optimisers, with gradient clipping, learning rates by layer, and frozen parameters."""

import dataclasses
import math
from collections.abc import Collection
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.train.recipe import parameter_paths
from effnetv2_jax.train.recipe.layer_rates import rate_factors, with_factors
from effnetv2_jax.train.recipe.losses import is_decayed
from effnetv2_jax.train.recipe.schedule import Schedule, ScheduleConfig


@dataclasses.dataclass
class OptimizerConfig:
    """How gradients become updates.

    Attributes:
      name: the optimiser; `rmsprop` is TensorFlow 1's.
      schedule: the learning rate at each step.
      momentum: momentum of the updates; β₁ of AdamW.
      decay: decay of RMSProp's mean square; the other optimisers ignore it.
      epsilon: RMSProp's (inside the root) or AdamW's; None takes 1e-3 for RMSProp and 1e-8 for AdamW.
      weight_decay: weight decay of the kernels: as L2 in the loss for `rmsprop` and `sgd`, decoupled for `adamw`.
      clip_norm: each parameter's gradient is clipped to this norm, and then their global norm is; 0 for no clipping.
      layer_decay: factor of the learning rate from one block to the one before it, such as 0.9: the classifier has the
        rate of the schedule, the last block this factor of it, the block before the square of it; 1 for equal rates.
      head_rate: factor of the learning rate of the classifier.
      frozen: regular expressions, matched at the start of parameter paths, such as `stem` or `block_[0-9]/`. Parameters
        that match keep their values. A BatchNorm that has such a parameter normalises with its moving averages, as in
        evaluation, and keeps them.
      frozen_rows: rows of blocks whose parameters keep their values in the same way, such as `(0, 1, 2)`. The stem is
        frozen by `frozen`.
      max_bad_steps: number of steps in a row that may be skipped because their loss or gradients are not finite; 0 to
        skip none and stop at the first. A skipped step changes nothing, and the next one has the next batch.
    """

    name: Literal["rmsprop", "sgd", "adamw"] = "rmsprop"
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    momentum: float = 0.9
    decay: float = 0.9
    epsilon: float | None = None
    weight_decay: float = 1e-5
    clip_norm: float = 0.0
    layer_decay: float = 1.0
    head_rate: float = 1.0
    frozen: tuple[str, ...] = ()
    frozen_rows: tuple[int, ...] = ()
    max_bad_steps: int = 0


def _rmsprop(config: OptimizerConfig, rate: Schedule) -> optax.GradientTransformation:
    # TensorFlow 1's RMSProp: epsilon lies inside the root, the accumulator starts at 1, and the momentum accumulates
    # updates that are already multiplied by the learning rate.
    epsilon = 1e-3 if config.epsilon is None else config.epsilon
    return optax.rmsprop(
        rate, decay=config.decay, eps=epsilon, initial_scale=1.0, eps_in_sqrt=True, momentum=config.momentum
    )


def _sgd(config: OptimizerConfig, rate: Schedule) -> optax.GradientTransformation:
    return optax.sgd(rate, momentum=config.momentum or None)


def _adamw(config: OptimizerConfig, rate: Schedule) -> optax.GradientTransformation:
    epsilon = 1e-8 if config.epsilon is None else config.epsilon
    return optax.adamw(rate, b1=config.momentum, eps=epsilon, weight_decay=config.weight_decay, mask=_decay_mask)


OPTIMIZERS = MappingProxyType({"rmsprop": _rmsprop, "sgd": _sgd, "adamw": _adamw})


def make_optimizer(
    config: OptimizerConfig, rate: Schedule, spec: ModelSpec, params: Any, frozen: Collection[str] = ()
) -> optax.GradientTransformation:
    """Returns the gradient transformation of a run.

    Args:
      config: how gradients become updates.
      rate: the learning rate at each step.
      spec: the network's architecture.
      params: the parameters, as arrays or shapes.
      frozen: paths of the parameters that keep their values; the state has no arrays for them.

    Raises:
      ValueError: for a number out of its range.
    """
    for name, below in (
        ("momentum", 1.0),
        ("decay", 1.0),
        ("epsilon", math.inf),
        ("weight_decay", math.inf),
        ("clip_norm", math.inf),
        ("layer_decay", math.inf),
        ("head_rate", math.inf),
    ):
        value = getattr(config, name)
        if value is not None and not 0 <= value < below:
            limit = f" and less than {below:g}" if below < math.inf else ""
            raise ValueError(f"optimizer.{name} must be finite and at least 0{limit}, got {value}")
    # The chain has one part with and without clipping and factors, so that a run may begin or cease to use them.
    factors = rate_factors(config.layer_decay, config.head_rate, spec, params)
    transformation = _clipped(OPTIMIZERS[config.name](config, rate), config.clip_norm)
    transformation = optax.chain(with_factors(transformation, factors))
    if not frozen:
        return transformation
    labels = parameter_paths.unflatten({path: "frozen" if path in frozen else "trained" for path in factors})
    return optax.partition({"trained": transformation, "frozen": optax.set_to_zero()}, labels)


def l2_in_loss(config: OptimizerConfig) -> float:
    """Returns the weight of the L2 penalty in the loss: 0 if the optimiser decays the weights itself."""
    return 0.0 if config.name == "adamw" else config.weight_decay


def _decay_mask(params: Any) -> Any:
    return parameter_paths.unflatten({path: is_decayed(path) for path in parameter_paths.flatten(params)})


def _clipped(transformation: optax.GradientTransformation, clip_norm: float) -> optax.GradientTransformation:
    """Returns a transformation with the same state that clips the gradients first; a norm of 0 clips nothing."""
    if not clip_norm:
        return transformation
    # Source: the official main.py, which clips the norm of each variable first and then the global norm.
    clip = optax.chain(optax.stateless(_clip_each(clip_norm)), optax.clip_by_global_norm(clip_norm))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        clipped, _ = clip.update(updates, clip.init(params), params)
        return transformation.update(clipped, state, params)

    return optax.GradientTransformation(transformation.init, update)


def _clip_each(clip_norm: float) -> Any:
    def clip(updates: Any, _: Any = None) -> Any:
        return jax.tree.map(
            lambda g: g * jnp.minimum(1.0, clip_norm / jnp.maximum(jnp.linalg.norm(g.ravel()), 1e-12)), updates
        )

    return clip
