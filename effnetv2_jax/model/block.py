"""A block: its layers in turn, and the residual around them."""

from __future__ import annotations

import functools

from flax import linen as nn
from jax import Array

from effnetv2_jax.model.layers import BatchNorm, Conv, apply_layer, drop_path
from effnetv2_jax.model.specs import BlockSpec
from effnetv2_jax.model.unit_block import apply_units


class Block(nn.Module):
    """MBConv or Fused-MBConv, as `spec` describes: `[N, H, W, C]` → `[N, H', W', features]`.

    `drop_path_rate` is the probability that an image skips the block in training. With `fast_tpu_gradients`, MBConv
    is computed in the units of `tpu_units` in training. Fused-MBConv is not: units would save cycles in one of its rows
    and cost cycles in another.
    """

    spec: BlockSpec
    conv: functools.partial[Conv]
    norm: functools.partial[BatchNorm] | None
    drop_path_rate: float
    fast_tpu_gradients: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        if train and self.fast_tpu_gradients and self.spec.kind == "mbconv":
            assert self.norm is not None  # a network whose BatchNorm is folded is not trained
            y = apply_units(self.spec, x, conv=self.conv, norm=self.norm)
        else:
            y = x
            for layer in self.spec.layers():
                y = apply_layer(layer, y, conv=self.conv, norm=self.norm, train=train)
        if not self.spec.has_residual:
            return y
        if train and self.drop_path_rate > 0.0:
            y = drop_path(y, self.drop_path_rate, self.make_rng("dropout"))
        return x + y
