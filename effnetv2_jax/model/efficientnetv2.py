"""The network: stem, blocks, head."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from effnetv2_jax.model.blocks import BLOCKS
from effnetv2_jax.model.convolution import Padding
from effnetv2_jax.model.initializers import ARTICLE_CLASSIFIER, CLASSIFIER, Distribution
from effnetv2_jax.model.layers import BatchNorm, Conv
from effnetv2_jax.model.specs import ModelSpec, get_spec

Endpoints = dict[str, Array]


class EfficientNetV2(nn.Module):
    """EfficientNetV2 and its relatives, as `spec` describes.

    Parameters, BatchNorm's statistics and the logits are float32; everything between is computed in `dtype`.
    In training, `apply` needs `rngs={"dropout": key}` where a rate is above 0, and `mutable=["batch_stats"]`.
    """

    spec: ModelSpec
    num_classes: int
    dtype: DTypeLike
    padding: Padding
    dropout_rate: float
    drop_path_rate: float
    bn_momentum: float
    bn_epsilon: float
    bn_group_size: int = 0
    remat: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self, images: Array, *, train: bool = False, return_endpoints: bool = False
    ) -> Array | tuple[Array, Endpoints]:
        """Classifies normalised images.

        Args:
          images: `[N, H, W, 3]`, any float dtype.
          train: whether BatchNorm uses the batch's statistics and dropout and drop path act.
          return_endpoints: also return the feature maps by name: `stem`, every `block_i`, `reduction_1` … (the last
            block at each resolution), `features` (after the head's convolution) and `pooled_features`.

        Returns:
          Float32 logits `[N, num_classes]`, or the pooled features `[N, head width]` if there are 0 classes; with the
          end points where asked.

        Raises:
          ValueError: for images smaller than the network can halve, or not of the shape above.
        """
        self._check(images)
        norm = functools.partial(BatchNorm, self.bn_momentum, self.bn_epsilon, self.bn_group_size)
        x = images.astype(self.dtype)
        x = Conv(self.spec.stem_width, 3, stride=2, padding=self.padding, name="stem_conv")(x)
        x = nn.silu(norm(name="stem_norm")(x, train=train))
        ends: Endpoints = {"stem": x}
        blocks = list(self.spec.blocks())
        reduction = 0
        rates = self.spec.drop_path_rates(self.drop_path_rate)
        for i, (block, rate) in enumerate(zip(blocks, rates, strict=True)):
            block_of = functools.partial(_apply, train=train)
            if block.row in self.remat:
                block_of = nn.remat(block_of)
            x = block_of(BLOCKS[block.kind](block, norm, self.padding, rate, name=f"block_{i}"), x)
            ends[f"block_{i}"] = x
            if i + 1 == len(blocks) or blocks[i + 1].stride > 1:
                reduction += 1
                ends[f"reduction_{reduction}"] = x
        x = Conv(self.spec.head_width, 1, name="head_conv")(x)
        x = nn.silu(norm(name="head_norm")(x, train=train))
        ends["features"] = x
        x = x.mean((1, 2), dtype=jnp.float32)
        ends["pooled_features"] = x
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        if self.num_classes:
            x = nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=self.classifier_init, name="classifier")(x)
        return (x, ends) if return_endpoints else x

    @property
    def classifier_init(self) -> Distribution:
        """How the classifier's kernel is drawn."""
        return ARTICLE_CLASSIFIER if self.spec.name.startswith("article-") else CLASSIFIER

    def _check(self, images: Array) -> None:
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images must be [N, H, W, 3], got {list(images.shape)}")
        smallest = self.spec.minimum_image_size
        if min(images.shape[1:3]) < smallest:
            height, width = images.shape[1:3]
            raise ValueError(f"{self.spec.name} needs images of at least {smallest}×{smallest}, got {height}×{width}")


def _apply(block: nn.Module, x: Array, *, train: bool) -> Array:
    return block(x, train=train)


def create_model(
    variant: str | ModelSpec,
    *,
    num_classes: int = 1000,
    dtype: DTypeLike = jnp.float32,
    **fields: Any,
) -> EfficientNetV2:
    """Creates the network of a variant.

    Args:
      variant: a name of `VARIANTS` or a spec, such as `VARIANTS["efficientnetv2-b0"].scaled(width=0.5)`.
      num_classes: outputs of the classifier; 0 leaves it out.
      dtype: of the activations: `float32` or `bfloat16`.
      **fields: instead of the variant's own: `padding` (`"same"`, or `"symmetric"` as PyTorch's), `dropout_rate`,
        `drop_path_rate`, `bn_momentum`, `bn_epsilon`; `bn_group_size`, the images BatchNorm normalises together; and
        `remat`, the rows of blocks whose activations are computed again in the backward pass instead of kept.

    Raises:
      ValueError: for an unknown variant, dtype or padding, or a number out of its range.
      TypeError: for an unknown field.
    """
    spec = get_spec(variant)
    if num_classes < 0:
        raise ValueError(f"num_classes must be 0 or more, got {num_classes}")
    if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"dtype must be float32 or bfloat16, got {jnp.dtype(dtype).name}")
    defaults = ("padding", "dropout_rate", "drop_path_rate", "bn_momentum", "bn_epsilon")
    fields = {name: getattr(spec, name) for name in defaults} | fields
    if fields["padding"] not in ("same", "symmetric"):
        raise ValueError(f"padding must be 'same' or 'symmetric', got {fields['padding']!r}")
    for name in ("dropout_rate", "drop_path_rate", "bn_momentum"):
        if not 0.0 <= fields[name] < 1.0:
            raise ValueError(f"{name} must be at least 0 and less than 1, got {fields[name]}")
    unknown = sorted(set(fields.get("remat", ())) - set(range(len(spec.rows))))
    if unknown:
        raise ValueError(f"remat must name rows of {spec.name}, 0 to {len(spec.rows) - 1}, got {unknown}")
    return EfficientNetV2(spec, num_classes, dtype, **fields)
