"""Folds BatchNorm into the convolutions before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.variables import Variables

_CONV, _NORM = "_conv", "_norm"


def fold_batch_norm(model: EfficientNetV2, variables: Mapping[str, Any]) -> tuple[EfficientNetV2, Variables]:
    """Returns a network without BatchNorm that computes the same logits for inference, and its variables.

    BatchNorm multiplies each channel by scale / √(variance + epsilon) and adds an offset. Here the kernel of the
    convolution before it is multiplied by this factor, and the offset becomes the convolution's bias. The logits differ
    by rounding: in float32 by about 1e-6 of the largest logit. In bfloat16, the folded kernels are rounded where the
    others were, so both networks are equally far from the float32 one.

    The function is pure and works on NumPy arrays, and on JAX arrays within `jax.jit`.

    Args:
      model: a network with BatchNorm.
      variables: its variables `{"params": …, "batch_stats": …}`.

    Returns:
      The network with `has_folded_norms`, and its variables `{"params": …}`. It has no mode for training.

    Raises:
      ValueError: if the network's BatchNorm is folded already.
    """
    if model.has_folded_norms:
        raise ValueError("the network's BatchNorm is folded into its convolutions already")
    params = _folded(variables["params"], variables["batch_stats"], model.bn_epsilon)
    return model.clone(has_folded_norms=True), {"params": params}


def _folded(params: Mapping[str, Any], statistics: Mapping[str, Any], epsilon: float) -> dict[str, Any]:
    folded: dict[str, Any] = {}
    for name, layer in params.items():
        if name.endswith(_CONV):
            norm = name.removesuffix(_CONV) + _NORM
            mean, variance = statistics[norm]["mean"], statistics[norm]["var"]
            factor = params[norm]["scale"] * (variance + epsilon) ** -0.5
            bias = params[norm]["bias"] - mean * factor
            folded[name] = {"kernel": layer["kernel"] * factor[None, None, None, :], "bias": bias}
        elif name in statistics and not name.endswith(_NORM):
            folded[name] = _folded(layer, statistics[name], epsilon)
        elif not name.endswith(_NORM):
            folded[name] = layer
    return folded
