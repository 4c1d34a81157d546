"""Optimisers, with clipping and frozen parts."""

import dataclasses
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from effnetv2_jax.train.recipe import parameter_paths
from effnetv2_jax.train.recipe.losses import is_decayed
from effnetv2_jax.train.recipe.schedule import Schedule, ScheduleConfig


@dataclasses.dataclass
class OptimizerConfig:
    """How gradients become updates.

    `decay` is that of `rmsprop`'s mean square; `epsilon` is rmsprop's by default, `adamw` usually takes 1e-8; `sgd` has
    neither. `weight_decay` is L2 in the loss for `rmsprop` and `sgd`, decoupled for `adamw`; kernels only. A
    `clip_norm` above 0 clips each parameter's gradient to that norm and then the global one. `frozen` are regular
    expressions, matched at the start of parameter paths (`stem`, `block_[0-9]/`): what they match keeps its value,
    BatchNorm's statistics too.
    """

    name: str = "rmsprop"
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    momentum: float = 0.9
    decay: float = 0.9
    epsilon: float = 1e-3
    weight_decay: float = 1e-5
    clip_norm: float = 0.0
    frozen: tuple[str, ...] = ()


def _rmsprop(config: OptimizerConfig, rate: Schedule) -> optax.GradientTransformation:
    # TF1's RMSProp: epsilon inside the root, the accumulator starts at 1, the rate comes before the momentum.
    return optax.rmsprop(
        rate, decay=config.decay, eps=config.epsilon, initial_scale=1.0, eps_in_sqrt=True, momentum=config.momentum
    )


def _sgd(config: OptimizerConfig, rate: Schedule) -> optax.GradientTransformation:
    return optax.sgd(rate, momentum=config.momentum or None)


def _adamw(config: OptimizerConfig, rate: Schedule) -> optax.GradientTransformation:
    return optax.adamw(rate, b1=config.momentum, eps=config.epsilon, weight_decay=config.weight_decay, mask=_decay_mask)


OPTIMIZERS = MappingProxyType({"rmsprop": _rmsprop, "sgd": _sgd, "adamw": _adamw})


def make_optimizer(config: OptimizerConfig, rate: Schedule, params: Any) -> optax.GradientTransformation:
    """Returns the gradient transformation for parameters of the given tree (arrays or shapes).

    Raises:
      ValueError: for an unknown name, a number out of its range or a frozen pattern that matches nothing.
    """
    if config.name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {config.name!r}; known optimizers: {', '.join(OPTIMIZERS)}")
    for name, below in (
        ("momentum", 1.0),
        ("decay", 1.0),
        ("epsilon", None),
        ("weight_decay", None),
        ("clip_norm", None),
    ):
        value = getattr(config, name)
        if value < 0 or (below is not None and value >= below):
            raise ValueError(
                f"optimizer.{name} must be at least 0{f' and less than {below:g}' if below else ''}, got {value}"
            )
    parts = [OPTIMIZERS[config.name](config, rate)]
    if config.clip_norm:
        # Source: the official main.py clips each variable's norm first, then the global one.
        parts = [optax.stateless(_clip_each(config.clip_norm)), optax.clip_by_global_norm(config.clip_norm), *parts]
    transformation = optax.chain(*parts)
    if not config.frozen:
        return transformation
    frozen = parameter_paths.matching(params, config.frozen)
    labels = parameter_paths.unflatten(
        {path: "frozen" if path in frozen else "trained" for path in parameter_paths.flatten(params)}
    )
    return optax.partition({"trained": transformation, "frozen": optax.set_to_zero()}, labels)


def l2_in_loss(config: OptimizerConfig) -> float:
    """Returns the weight of the loss's L2 penalty: 0 where the optimiser decays the weights itself."""
    return 0.0 if config.name == "adamw" else config.weight_decay


def _decay_mask(params: Any) -> Any:
    return parameter_paths.unflatten({path: is_decayed(path) for path in parameter_paths.flatten(params)})


def _clip_each(clip_norm: float) -> Any:
    def clip(updates: Any, params: Any = None) -> Any:
        del params
        return jax.tree.map(
            lambda g: g * jnp.minimum(1.0, clip_norm / jnp.maximum(jnp.linalg.norm(g.ravel()), 1e-12)), updates
        )

    return clip
