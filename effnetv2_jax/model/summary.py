"""What a network is made of: sizes, parameters and multiply-adds, computed from its spec."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from effnetv2_jax.model.convolution import explicit_padding
from effnetv2_jax.model.specs import BlockSpec, ModelSpec


@dataclasses.dataclass(frozen=True)
class Layer:
    """A part of the network: its output `[image_size, image_size, features]`, parameters and multiply-adds an image.

    `parameters` are the trainable ones; `statistics` BatchNorm's means and variances. `row` numbers the spec's rows.
    """

    name: str
    row: int | None
    description: str
    image_size: int
    features: int
    parameters: int
    statistics: int
    multiply_adds: int


def layers(spec: ModelSpec, image_size: int, num_classes: int = 1000) -> Iterator[Layer]:
    """Yields stem, blocks and head in order, for square images of the given side in pixels.

    Multiply-adds are those of convolutions and the classifier, the papers' "FLOPs".

    Raises:
      ValueError: for images smaller than the network can halve.
    """
    if image_size < spec.minimum_image_size:
        raise ValueError(f"{spec.name} needs images of at least {spec.minimum_image_size} px, got {image_size}")
    size = _output_size(spec, image_size, 3, 2)
    yield _layer("stem", None, "3×3 convolution /2", size, _convolution(3, spec.stem_width, 3, size))
    for number, block in enumerate(spec.blocks()):
        parts = list(_block(spec, block, size))
        size = _output_size(spec, size, block.kernel_size, block.stride)
        yield _layer(f"block_{number}", block.row, _describe(block), size, *parts)
    features = block.features
    yield _layer("head", None, "1×1 convolution", size, _convolution(features, spec.head_width, 1, size))
    if num_classes:
        weights = spec.head_width * num_classes
        classifier = _Part(num_classes, weights + num_classes, 0, weights)
        yield _layer("classifier", None, "mean, dropout, dense", 1, classifier)


def count_parameters(spec: ModelSpec, num_classes: int = 1000) -> int:
    """Returns the number of trainable parameters."""
    return sum(layer.parameters for layer in layers(spec, spec.eval_size, num_classes))


def count_multiply_adds(spec: ModelSpec, image_size: int, num_classes: int = 1000) -> int:
    """Returns the multiply-adds of a forward pass over one image."""
    return sum(layer.multiply_adds for layer in layers(spec, image_size, num_classes))


@dataclasses.dataclass(frozen=True)
class _Part:
    features: int
    parameters: int
    statistics: int
    multiply_adds: int


def _layer(name: str, row: int | None, description: str, image_size: int, *parts: _Part) -> Layer:
    return Layer(
        name,
        row,
        description,
        image_size,
        parts[-1].features,
        sum(part.parameters for part in parts),
        sum(part.statistics for part in parts),
        sum(part.multiply_adds for part in parts),
    )


def _convolution(inputs: int, features: int, kernel_size: int, size: int) -> _Part:
    """A convolution to a map of size × size pixels and the BatchNorm after it."""
    weights = kernel_size**2 * inputs * features
    return _Part(features, weights + 2 * features, 2 * features, weights * size**2)


def _squeeze_excite(features: int, squeezed: int) -> _Part:
    weights = 2 * features * squeezed
    return _Part(features, weights + squeezed + features, 0, weights)


def _block(spec: ModelSpec, block: BlockSpec, size: int) -> Iterator[_Part]:
    out = _output_size(spec, size, block.kernel_size, block.stride)
    width = block.expanded_features
    if block.kind == "fused":
        width = width if block.has_projection else block.features
        yield _convolution(block.input_features, width, block.kernel_size, out)
    else:
        if block.expand_ratio != 1:
            yield _convolution(block.input_features, width, 1, size)
        yield _convolution(1, width, block.kernel_size, out)
    if block.se_features:
        yield _squeeze_excite(width, block.se_features)
    if block.has_projection:
        yield _convolution(width, block.features, 1, out)


def _output_size(spec: ModelSpec, size: int, kernel_size: int, stride: int) -> int:
    padded = size + sum(explicit_padding(size, kernel_size, stride, spec.padding))
    return math.floor((padded - kernel_size) / stride) + 1


def _describe(block: BlockSpec) -> str:
    name = {"fused": "Fused-MBConv", "mbconv": "MBConv"}[block.kind]
    stride = f" /{block.stride}" if block.stride > 1 else ""
    squeezed = f", SE {block.se_features}" if block.se_features else ""
    return f"{name}{block.expand_ratio}, {block.kernel_size}×{block.kernel_size}{stride}{squeezed}"
