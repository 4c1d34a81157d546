"""The network: stem, blocks, head."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import get_args

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from effnetv2_jax.model.block import Block
from effnetv2_jax.model.initializers import ARTICLE_CLASSIFIER, CLASSIFIER, Distribution
from effnetv2_jax.model.lax_convolution import Padding
from effnetv2_jax.model.layers import BatchNorm, Conv, apply_layer
from effnetv2_jax.model.specs import ModelSpec
from effnetv2_jax.model.variants import get_spec

Endpoints = dict[str, Array]


class EfficientNetV2(nn.Module):
    """The network of a `spec`: EfficientNetV2, EfficientNet or the article's network.

    Parameters, BatchNorm's statistics and the logits are float32. Activations are computed in `dtype`. Training needs
    `mutable=["batch_stats"]` in `apply`, and also `rngs={"dropout": key}` if a dropout or drop path rate is above 0.
    `create_model` documents the fields. With `has_folded_norms`, which `fold_batch_norm` sets, the network has no
    BatchNorm, its convolutions have biases, and it cannot be trained.
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
    fast_cpu_gradients: bool = False
    fast_tpu_gradients: bool = False
    fixed_norms: frozenset[str] = frozenset()
    has_folded_norms: bool = False

    @nn.compact
    def __call__(
        self, images: Array, *, train: bool = False, return_endpoints: bool = False
    ) -> Array | tuple[Array, Endpoints]:
        """Classifies normalised images.

        Args:
          images: `[N, H, W, 3]`, any float dtype.
          train: whether BatchNorm uses the batch's statistics and dropout and drop path are active.
          return_endpoints: whether to return the feature maps too, by name: `stem`, each `block_i`, `reduction_1` to
            `reduction_5` (the last block at each resolution), `features` (the head's output) and `pooled_features`.

        Returns:
          Float32 logits `[N, num_classes]`, or the pooled features `[N, head_width]` if there are no classes. With
          `return_endpoints`, a pair of these and the feature maps.

        Raises:
          ValueError: for no images, for images of another shape or below the spec's `minimum_image_size`, and in
            training for a batch that does not divide into BatchNorm groups or a network whose BatchNorm is folded.
        """
        self._check(images, train)
        conv, norm = self._layers()
        layer = functools.partial(apply_layer, conv=conv, norm=norm, train=train)
        x = layer(self.spec.stem, images.astype(self.dtype))
        ends: Endpoints = {"stem": x}
        blocks = list(self.spec.blocks())
        rates = self.spec.drop_path_rates(self.drop_path_rate)
        reduction = 0
        for i, (spec, rate) in enumerate(zip(blocks, rates, strict=True)):
            apply = functools.partial(_apply, train=train)
            if spec.row in self.remat:
                apply = nn.remat(apply)
            in_units = self.fast_tpu_gradients and not self._has_fixed_norms(f"block_{i}/")
            block = Block(spec, conv, norm, rate, in_units, name=f"block_{i}")
            x = ends[f"block_{i}"] = apply(block, x)
            if i + 1 == len(blocks) or blocks[i + 1].stride > 1:
                reduction += 1
                ends[f"reduction_{reduction}"] = x
        x = layer(self.spec.head, x)
        ends["features"] = x
        x = x.mean((1, 2), dtype=jnp.float32)
        ends["pooled_features"] = x
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        if self.num_classes:
            x = nn.Dense(self.num_classes, dtype=jnp.float32, kernel_init=self.classifier_init, name="classifier")(x)
        return (x, ends) if return_endpoints else x

    @property
    def classifier_init(self) -> Distribution:
        """The distribution that the classifier's kernel is drawn from."""
        return ARTICLE_CLASSIFIER if self.spec.name.startswith("article-") else CLASSIFIER

    def _layers(self) -> tuple[functools.partial[Conv], functools.partial[BatchNorm] | None]:
        """Returns what makes a convolution and what makes the BatchNorm after it, if there is one."""
        conv = functools.partial(
            Conv,
            padding=self.padding,
            fast_cpu_gradients=self.fast_cpu_gradients,
            use_bias=self.has_folded_norms,
        )
        if self.has_folded_norms:
            return conv, None
        return conv, functools.partial(
            BatchNorm, self.bn_momentum, self.bn_epsilon, self.bn_group_size, self.fixed_norms
        )

    def _has_fixed_norms(self, prefix: str) -> bool:
        return any(path.startswith(prefix) for path in self.fixed_norms)

    def _check(self, images: Array, train: bool) -> None:
        if train and self.has_folded_norms:
            raise ValueError("a network whose BatchNorm is folded into its convolutions cannot be trained")
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images must be [N, H, W, 3], got {list(images.shape)}")
        if images.shape[0] == 0:
            raise ValueError(f"the batch has no images: its shape is {list(images.shape)}")
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
    padding: Padding | None = None,
    dropout_rate: float | None = None,
    drop_path_rate: float | None = None,
    bn_momentum: float | None = None,
    bn_epsilon: float | None = None,
    bn_group_size: int = 0,
    remat: Sequence[int] = (),
    fast_cpu_gradients: bool = False,
    fast_tpu_gradients: bool = False,
    fixed_norms: Collection[str] = (),
) -> EfficientNetV2:
    """Creates the network of a variant. None means the variant's own value.

    Args:
      variant: a name of `VARIANTS`, a file of `write_spec`, or a spec, such as
        `VARIANTS["efficientnetv2-b0"].scaled(width=0.5)`.
      num_classes: outputs of the classifier; 0 leaves the classifier out.
      dtype: dtype of the activations, `float32` or `bfloat16`.
      padding: `"same"` as in TensorFlow, or `"symmetric"` as in PyTorch.
      dropout_rate: probability that a pooled feature is dropped.
      drop_path_rate: block i of n, counted from 0, is skipped by an image with the probability drop_path_rate · i / n.
      bn_momentum: share of the old moving average that BatchNorm keeps at each step.
      bn_epsilon: added to BatchNorm's variance.
      bn_group_size: images that BatchNorm normalises together in training; 0 for the whole batch.
      remat: rows of blocks whose activations are computed again in the backward pass instead of kept in memory.
      fast_cpu_gradients: whether a CPU computes hand-written gradients of the convolutions, which are several times
        faster than JAX's own. They support `jax.grad` and `jax.vjp` only; without them, `jax.jvp`, `jax.hessian` and
        all other transformations work too.
      fast_tpu_gradients: whether training computes MBConv with hand-written gradients, which need fewer passes over
        large arrays on a TPU. Other devices compute the same, more slowly. They support `jax.grad` and `jax.vjp` only.
      fixed_norms: paths of the BatchNorm layers, such as `block_0/expand_norm`, that use their moving averages in
        training too, and keep them, as where parameters are frozen.

    Raises:
      ValueError: for an unknown variant, dtype, padding or row in `remat`, or a number out of its range.
    """
    spec = get_spec(variant)
    if num_classes < 0:
        raise ValueError(f"num_classes must be 0 or more, got {num_classes}")
    if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"dtype must be float32 or bfloat16, got {jnp.dtype(dtype).name}")
    padding = spec.padding if padding is None else padding
    if padding not in get_args(Padding):
        raise ValueError(f"padding must be 'same' or 'symmetric', got {padding!r}")
    dropout_rate = spec.dropout_rate if dropout_rate is None else dropout_rate
    drop_path_rate = spec.drop_path_rate if drop_path_rate is None else drop_path_rate
    bn_momentum = spec.bn_momentum if bn_momentum is None else bn_momentum
    rates = {"dropout_rate": dropout_rate, "drop_path_rate": drop_path_rate, "bn_momentum": bn_momentum}
    for name, rate in rates.items():
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"{name} must be at least 0 and less than 1, got {rate}")
    bn_epsilon = spec.bn_epsilon if bn_epsilon is None else bn_epsilon
    if not bn_epsilon > 0.0:
        raise ValueError(f"bn_epsilon must be positive, got {bn_epsilon}")
    if bn_group_size < 0:
        raise ValueError(f"bn_group_size must be 0 or more, got {bn_group_size}")
    unknown = sorted(set(remat) - set(range(len(spec.rows))))
    if unknown:
        raise ValueError(f"remat must name rows of {spec.name}, 0 to {len(spec.rows) - 1}, got {unknown}")
    return EfficientNetV2(
        spec,
        num_classes,
        dtype,
        padding,
        dropout_rate,
        drop_path_rate,
        bn_momentum,
        bn_epsilon,
        bn_group_size,
        tuple(remat),
        fast_cpu_gradients,
        fast_tpu_gradients,
        frozenset(fixed_norms),
    )
