"""What defines an architecture: rows of blocks, and the layers that each block has."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

from effnetv2_jax.model.lax_convolution import Padding

BlockKind = Literal["mbconv", "fused"]
LayerKind = Literal["conv", "depthwise", "squeeze"]
Rounding = Literal["nearest", "divisible"]


@dataclasses.dataclass(frozen=True)
class RowSpec:
    """A row of the architecture table, which describes several blocks.

    Attributes:
      kind: kind of the blocks, `mbconv` or `fused`.
      expand_ratio: channels inside a block, as a multiple of its input features.
      kernel_size: side in pixels of the depthwise or the fused convolution.
      stride: stride of the first block; the others have stride 1.
      features: channels of the blocks' outputs, before scaling.
      repeats: number of blocks, before scaling.
      se_ratio: channels of the squeeze, as a multiple of a block's input features; 0 means no squeeze and excitation.
    """

    kind: BlockKind
    expand_ratio: int
    kernel_size: int
    stride: int
    features: int
    repeats: int
    se_ratio: float = 0.0


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """One layer: a convolution with the BatchNorm after it, or a squeeze and excitation.

    Attributes:
      name: prefix of its parameters' names: `expand` has `expand_conv` and `expand_norm`.
      kind: `conv` for a dense convolution, `depthwise`, or `squeeze` for squeeze and excitation.
      input_features: channels of its input.
      features: channels of its output.
      kernel_size: side of the kernel in pixels.
      stride: stride in both directions.
      activated: whether SiLU follows the convolution.
      squeezed_features: channels between the two convolutions of a squeeze and excitation.
    """

    name: str
    kind: LayerKind
    input_features: int
    features: int
    kernel_size: int = 1
    stride: int = 1
    activated: bool = True
    squeezed_features: int = 0


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """One block of the network, with every width computed.

    Attributes:
      kind: `mbconv` or `fused`.
      row: index of the row that it belongs to.
      expand_ratio: channels inside the block, as a multiple of `input_features`.
      kernel_size: side in pixels of the depthwise or the fused convolution.
      stride: stride of that convolution.
      input_features: channels of its input.
      features: channels of its output.
      se_features: channels of the squeeze; 0 means no squeeze and excitation.
      has_projection: whether the block ends with a 1×1 projection. A fused block of expand ratio 1 has none and is a
        single convolution, except in the article's network.
    """

    kind: BlockKind
    row: int
    expand_ratio: int
    kernel_size: int
    stride: int
    input_features: int
    features: int
    se_features: int
    has_projection: bool

    @property
    def has_residual(self) -> bool:
        """Whether the block adds its input to its output."""
        return self.stride == 1 and self.input_features == self.features

    def layers(self) -> Iterator[LayerSpec]:
        """Yields the block's layers in the order of computation.

        Source: Sandler et al., MobileNetV2, arXiv 1801.04381, and Tan & Le, EfficientNet, arXiv 1905.11946, for MBConv;
        Tan & Le, EfficientNetV2, arXiv 2104.00298, figure 2, for Fused-MBConv.
        """
        features, size, stride = self.input_features, self.kernel_size, self.stride
        width = features * self.expand_ratio
        if self.kind == "fused":
            width = width if self.has_projection else self.features
            yield LayerSpec("fused", "conv", features, width, size, stride)
        else:
            if self.expand_ratio != 1:
                yield LayerSpec("expand", "conv", features, width)
            yield LayerSpec("depthwise", "depthwise", width, width, size, stride)
        if self.se_features:
            yield LayerSpec("se", "squeeze", width, width, squeezed_features=self.se_features)
        if self.has_projection:
            yield LayerSpec("project", "conv", width, self.features, activated=False)


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """An architecture, and how its published weights were trained and evaluated.

    Attributes:
      name: the variant's name.
      rows: rows of blocks.
      stem_features: channels of the first layer, before scaling.
      citation: publication and code that define the architecture.
      train_size: side of the training images in the last stage, in pixels.
      eval_size: side of the evaluation images in pixels.
      dropout_rate: probability that a pooled feature is dropped in training.
      width: factor that scales all widths.
      depth: factor that scales all repeats.
      head_features: channels of the last layer, before scaling.
      drop_path_rate: the drop path rate that `drop_path_rates` distributes over the blocks.
      bn_momentum: share of the old moving average that BatchNorm keeps at each step.
      bn_epsilon: added to BatchNorm's variance.
      padding: `same` or `symmetric`.
      preprocessing: preprocessing family of the published weights, `v2` or `legacy`.
      rounding: `nearest` or `divisible`: how scaled widths become multiples of 8, see `round_features`.
      projects_expand_1: whether a fused block of expand ratio 1 has a 1×1 projection, as in the article's network.
      rounds_se: whether squeeze widths are rounded like other widths, as in the article's network, or truncated.
      top1: published top-1 accuracy in per cent on ImageNet-1k at `eval_size`, trained on ImageNet-1k alone; None if
        there is none.
      top1_21k: the same after pre-training on ImageNet-21k.
    """

    name: str
    rows: tuple[RowSpec, ...]
    stem_features: int
    citation: str
    train_size: int
    eval_size: int
    dropout_rate: float
    width: float = 1.0
    depth: float = 1.0
    head_features: int = 1280
    drop_path_rate: float = 0.2
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-3
    padding: Padding = "same"
    preprocessing: str = "v2"
    rounding: Rounding = "nearest"
    projects_expand_1: bool = False
    rounds_se: bool = False
    top1: float | None = None
    top1_21k: float | None = None

    def scaled(self, width: float = 1.0, depth: float = 1.0) -> ModelSpec:
        """Returns this architecture with widths and depths multiplied.

        Raises:
          ValueError: if a factor is not positive.
        """
        if not (width > 0 and depth > 0):
            raise ValueError(f"width and depth must be positive, got width={width}, depth={depth}")
        if width == depth == 1.0:
            return self
        return dataclasses.replace(
            self,
            name=f"{self.name} (width ×{width:g}, depth ×{depth:g})",
            width=self.width * width,
            depth=self.depth * depth,
            top1=None,
            top1_21k=None,
        )

    def features(self, unscaled: int) -> int:
        """Returns a width scaled and rounded to a multiple of 8, at least 8."""
        return round_features(unscaled * self.width, self.rounding)

    @property
    def stem(self) -> LayerSpec:
        """The first layer."""
        return LayerSpec("stem", "conv", 3, self.features(self.stem_features), kernel_size=3, stride=2)

    @property
    def head(self) -> LayerSpec:
        """The last layer, whose output is pooled."""
        return LayerSpec("head", "conv", self.features(self.rows[-1].features), self.head_width)

    @property
    def head_width(self) -> int:
        """Number of pooled features."""
        return self.features(self.head_features)

    def blocks(self) -> Iterator[BlockSpec]:
        """Yields all blocks in order."""
        input_features = self.stem.features
        for number, row in enumerate(self.rows):
            features = self.features(row.features)
            for repeat in range(math.ceil(self.depth * row.repeats)):
                yield BlockSpec(
                    kind=row.kind,
                    row=number,
                    expand_ratio=row.expand_ratio,
                    kernel_size=row.kernel_size,
                    stride=row.stride if repeat == 0 else 1,
                    input_features=input_features,
                    features=features,
                    se_features=self._se_features(input_features, row.se_ratio),
                    has_projection=row.kind == "mbconv" or row.expand_ratio != 1 or self.projects_expand_1,
                )
                input_features = features

    def drop_path_rates(self, rate: float) -> list[float]:
        """Returns each block's drop path rate, the probability that an image skips it: rate · i / n for block i of n.

        Blocks are counted from 0 through all rows.
        Source: `survival_prob` of the official effnetv2_model.py, which is 1 minus this rate.
        """
        count = sum(1 for _ in self.blocks())
        return [rate * i / count for i in range(count)]

    @property
    def total_stride(self) -> int:
        """Side of the image divided by the side of the last feature map."""
        return 2 * math.prod(row.stride for row in self.rows)

    @property
    def minimum_image_size(self) -> int:
        """The smallest side of an image in pixels that leaves the last strided convolution more than one pixel."""
        return self.total_stride // 2 + 1

    def _se_features(self, input_features: int, se_ratio: float) -> int:
        if not se_ratio:
            return 0
        width = input_features * se_ratio
        return round_features(width, self.rounding) if self.rounds_se else max(1, int(width))


def round_features(width: float, rounding: Rounding) -> int:
    """Returns the multiple of 8 nearest to `width`, at least 8.

    With `divisible`, a result below 0.9 × `width` becomes the next higher multiple.
    Source: V1's `round_filters` and MobileNet's `make_divisible`.
    Deviation: the official V2 code applies `divisible` to no network, not even to V1's, which were published with it.
    """
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounding == "divisible" and rounded < 0.9 * width else rounded
