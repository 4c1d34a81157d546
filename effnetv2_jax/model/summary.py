"""The components of a network with their sizes, parameters and multiply-adds, computed from its spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from effnetv2_jax.model.lax_convolution import explicit_padding
from effnetv2_jax.model.specs import BlockSpec, LayerSpec, ModelSpec


@dataclasses.dataclass(frozen=True)
class Component:
    """A component of the network: the stem, a block, the head or the classifier.

    Attributes:
      name: start of its parameters' paths.
      row: index of the spec's row that a block belongs to; None for the other components.
      description: a description in words.
      image_size: height and width of its output `[image_size, image_size, features]`, in pixels.
      features: channels of its output.
      parameters: number of trainable parameters.
      statistics: number of BatchNorm's means and variances.
      multiply_adds: multiply-adds of a forward pass over one image.
    """

    name: str
    row: int | None
    description: str
    image_size: int
    features: int
    parameters: int
    statistics: int
    multiply_adds: int


def components(spec: ModelSpec, image_size: int, num_classes: int = 1000) -> Iterator[Component]:
    """Yields stem, blocks, head and classifier in order, for square images of the given side in pixels.

    Multiply-adds are counted for the convolutions and the classifier. The papers call them "FLOPs".

    Raises:
      ValueError: for images below the spec's `minimum_image_size`.
    """
    if image_size < spec.minimum_image_size:
        raise ValueError(f"{spec.name} needs images of at least {spec.minimum_image_size} px, got {image_size}")
    stem = _part(spec, "stem", None, "3×3 convolution /2", [spec.stem], image_size)
    yield stem
    size = stem.image_size
    for number, block in enumerate(spec.blocks()):
        component = _part(spec, f"block_{number}", block.row, _describe(block), block.layers(), size)
        yield component
        size = component.image_size
    yield _part(spec, "head", None, "1×1 convolution", [spec.head], size)
    if num_classes:
        weights = spec.head_width * num_classes
        yield Component("classifier", None, "mean, dropout, dense", 1, num_classes, weights + num_classes, 0, weights)


def count_parameters(spec: ModelSpec, num_classes: int = 1000) -> int:
    """Returns the number of trainable parameters."""
    return sum(component.parameters for component in components(spec, spec.eval_size, num_classes))


def count_multiply_adds(spec: ModelSpec, image_size: int, num_classes: int = 1000) -> int:
    """Returns the multiply-adds of a forward pass over one image."""
    return sum(component.multiply_adds for component in components(spec, image_size, num_classes))


def _part(
    spec: ModelSpec, name: str, row: int | None, description: str, layers: Iterable[LayerSpec], image_size: int
) -> Component:
    """Adds up the layers of a component whose input has the given side in pixels."""
    total = _Counts(0, 0, 0)
    for layer in layers:
        padding = explicit_padding(image_size, layer.kernel_size, layer.stride, spec.padding)
        image_size = (image_size + sum(padding) - layer.kernel_size) // layer.stride + 1
        total = _Counts(*(a + b for a, b in zip(total, _counts(layer, image_size), strict=True)))
    return Component(name, row, description, image_size, layer.features, *total)


class _Counts(NamedTuple):
    parameters: int
    statistics: int
    multiply_adds: int


def _counts(layer: LayerSpec, output_size: int) -> _Counts:
    features = layer.features
    if layer.kind == "squeeze":
        weights = 2 * features * layer.squeezed_features
        return _Counts(weights + layer.squeezed_features + features, 0, weights)
    inputs = 1 if layer.kind == "depthwise" else layer.input_features
    weights = layer.kernel_size**2 * inputs * features
    return _Counts(weights + 2 * features, 2 * features, weights * output_size**2)


def _describe(block: BlockSpec) -> str:
    name = {"fused": "Fused-MBConv", "mbconv": "MBConv"}[block.kind]
    stride = f" /{block.stride}" if block.stride > 1 else ""
    squeezed = f", SE {block.se_features}" if block.se_features else ""
    return f"{name}{block.expand_ratio}, {block.kernel_size}×{block.kernel_size}{stride}{squeezed}"
