"""The two kinds of blocks."""

from __future__ import annotations

import functools

from flax import linen as nn
from jax import Array

from effnetv2_jax.model.convolution import Padding
from effnetv2_jax.model.layers import BatchNorm, Conv, DepthwiseConv, SqueezeExcite, drop_path
from effnetv2_jax.model.specs import BlockSpec


class _Block(nn.Module):
    """What both kinds share: how they are configured, and the residual with drop path."""

    spec: BlockSpec
    norm: functools.partial[BatchNorm]
    padding: Padding
    drop_path_rate: float

    def _residual(self, x: Array, branch: Array, *, train: bool) -> Array:
        if not self.spec.has_residual:
            return branch
        if train and self.drop_path_rate > 0.0:
            branch = drop_path(branch, self.drop_path_rate, self.make_rng("dropout"))
        return x + branch


class MBConv(_Block):
    """Expansion, depthwise convolution, squeeze and excitation, projection: `[N, H, W, C]` → `[N, H', W', features]`.

    Source: Sandler et al., MobileNetV2, arXiv 1801.04381; Tan & Le, EfficientNet, arXiv 1905.11946.
    """

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        spec, y = self.spec, x
        if spec.expand_ratio != 1:
            y = Conv(spec.expanded_features, 1, name="expand_conv")(y)
            y = nn.silu(self.norm(name="expand_norm")(y, train=train))
        y = DepthwiseConv(spec.kernel_size, spec.stride, self.padding, name="depthwise_conv")(y)
        y = nn.silu(self.norm(name="depthwise_norm")(y, train=train))
        if spec.se_features:
            y = SqueezeExcite(spec.se_features, name="se")(y)
        y = Conv(spec.features, 1, name="project_conv")(y)
        y = self.norm(name="project_norm")(y, train=train)
        return self._residual(x, y, train=train)


class FusedMBConv(_Block):
    """One full convolution in place of expansion and depthwise convolution: `[N, H, W, C]` → `[N, H', W', features]`.

    Without a projection (expand ratio 1) the convolution's activation is the block's.
    Source: Tan & Le, EfficientNetV2, arXiv 2104.00298, figure 2.
    """

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        spec = self.spec
        width = spec.expanded_features if spec.has_projection else spec.features
        y = Conv(width, spec.kernel_size, spec.stride, self.padding, name="fused_conv")(x)
        y = nn.silu(self.norm(name="fused_norm")(y, train=train))
        if spec.se_features:
            y = SqueezeExcite(spec.se_features, name="se")(y)
        if spec.has_projection:
            y = Conv(spec.features, 1, name="project_conv")(y)
            y = self.norm(name="project_norm")(y, train=train)
        return self._residual(x, y, train=train)


BLOCKS: dict[str, type[_Block]] = {"mbconv": MBConv, "fused": FusedMBConv}
