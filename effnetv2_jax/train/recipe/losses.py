"""The losses: cross-entropies of a batch, and the L2 penalty."""

import dataclasses
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

from effnetv2_jax.train.recipe import parameter_paths


@dataclasses.dataclass
class LossConfig:
    """The loss.

    Attributes:
      kind: the loss; `multi_hot` is softmax against labels normalised to the sum 1.
      label_smoothing: share of each target that is spread over all classes, or replaced by 0.5 for `sigmoid`.
    """

    kind: Literal["softmax", "sigmoid", "multi_hot"] = "softmax"
    label_smoothing: float = 0.1


def _softmax(logits: Array, targets: Array, smoothing: float) -> Array:
    return optax.softmax_cross_entropy(logits, targets * (1.0 - smoothing) + smoothing / targets.shape[-1])


def _sigmoid(logits: Array, targets: Array, smoothing: float) -> Array:
    return optax.sigmoid_binary_cross_entropy(logits, targets * (1.0 - smoothing) + 0.5 * smoothing).mean(-1)


def _multi_hot(logits: Array, targets: Array, smoothing: float) -> Array:
    return _softmax(logits, targets / jnp.maximum(targets.sum(-1, keepdims=True), 1.0), smoothing)


# Source: model_fn of the official main.py; tf.losses.softmax_cross_entropy and sigmoid_cross_entropy for the smoothing.
LOSSES = MappingProxyType({"softmax": _softmax, "sigmoid": _sigmoid, "multi_hot": _multi_hot})

Loss = Callable[[Array, Array], Array]


def make_loss(config: LossConfig) -> Loss:
    """Returns (logits `[N, C]`, targets `[N, C]`) → each example's loss `[N]`, float32.

    Raises:
      ValueError: for a label smoothing outside [0, 1).
    """
    if not 0.0 <= config.label_smoothing < 1.0:
        raise ValueError(f"loss.label_smoothing must lie in [0, 1), got {config.label_smoothing}")
    kind, smoothing = LOSSES[config.kind], config.label_smoothing
    return lambda logits, targets: kind(logits, targets, smoothing)


def one_hot(labels: Array, num_classes: int) -> Array:
    """Returns float32 targets `[N, C]` for integer labels `[N]`; multi-hot labels `[N, C]` are only cast."""
    return labels.astype(jnp.float32) if labels.ndim == 2 else jax.nn.one_hot(labels, num_classes)


def is_decayed(path: str) -> bool:
    """Returns whether weight decay applies to a parameter: to kernels, not to biases or BatchNorm's scales.

    Source: weight_decay_exclude of the official hparams.py, `.*(bias|gamma|beta).*`.
    """
    return path.endswith("/kernel")


def l2_penalty(params: Any, weight_decay: float) -> Array:
    """Returns weight_decay · Σ v² / 2 over the decayed parameters."""
    leaves = [leaf for path, leaf in parameter_paths.flatten(params).items() if is_decayed(path)]
    return weight_decay * 0.5 * sum((jnp.sum(jnp.square(leaf)) for leaf in leaves), jnp.float32(0.0))
