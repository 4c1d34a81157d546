"""The tensors of a network in order, each with its path, its shape and its place in the network."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterator
from typing import Literal

from effnetv2_jax.model.specs import LayerSpec, ModelSpec

Kind = Literal["conv", "depthwise", "squeeze", "dense", "vector"]
Leaf = Literal["kernel", "depthwise_kernel", "bias", "scale", "offset", "mean", "variance"]
Component = Literal["stem", "block", "head", "classifier"]

# The tensors of a BatchNorm.
_NORM: tuple[tuple[str, Leaf], ...] = (
    ("params/{}_norm/scale", "scale"),
    ("params/{}_norm/bias", "offset"),
    ("batch_stats/{}_norm/mean", "mean"),
    ("batch_stats/{}_norm/var", "variance"),
)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a layer is in the network.

    Attributes:
      component: the stem, a block, the head or the classifier.
      layer: name of the layer, such as `expand`.
      layers: names of all layers of its block in order; empty outside of blocks.
      block: index of its block in the network.
      row: index of its row in the architecture; the head's is one more than the last row's.
      repeat: index of its block in the row.
    """

    component: Component
    layer: str
    layers: tuple[str, ...] = ()
    block: int = 0
    row: int = 0
    repeat: int = 0


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A parameter or a statistic of a network.

    Attributes:
      path: its path in our variables, such as `params/block_3/expand_conv/kernel`.
      shape: its shape in our variables, such as `(1, 1, 48, 192)`.
      kind: the meaning of its axes, which each framework orders in its own way.
      place: the layer that it belongs to.
      module: index of its module in the layer. A convolutional layer consists of a convolution and a norm; squeeze and
        excitation consists of a reducing and an expanding convolution.
      leaf: its role in the module.
    """

    path: str
    shape: tuple[int, ...]
    kind: Kind
    place: Place
    module: int
    leaf: Leaf


@functools.lru_cache(maxsize=64)
def network_tensors(spec: ModelSpec, num_classes: int) -> tuple[Tensor, ...]:
    """Returns every parameter and statistic of a network in order. With 0 classes, there is no classifier."""
    return tuple(_network(spec, num_classes))


def _network(spec: ModelSpec, num_classes: int) -> Iterator[Tensor]:
    yield from _convolution("stem", spec.stem, Place("stem", "stem"))
    repeats: collections.Counter[int] = collections.Counter()
    for i, block in enumerate(spec.blocks()):
        layers = tuple(block.layers())
        names = tuple(layer.name for layer in layers)
        for layer in layers:
            place = Place("block", layer.name, names, i, block.row, repeats[block.row])
            tensors = _squeeze if layer.kind == "squeeze" else _convolution
            yield from tensors(f"block_{i}/{layer.name}", layer, place)
        repeats[block.row] += 1
    yield from _convolution("head", spec.head, Place("head", "head", row=len(spec.rows)))
    if num_classes:
        shape = (spec.head_width, num_classes)
        yield from _kernel_and_bias("classifier", shape, "dense", Place("classifier", "classifier"), 0)


def _convolution(path: str, layer: LayerSpec, place: Place) -> Iterator[Tensor]:
    depthwise = layer.kind == "depthwise"
    inputs = 1 if depthwise else layer.input_features
    shape = (layer.kernel_size, layer.kernel_size, inputs, layer.features)
    leaf: Leaf = "depthwise_kernel" if depthwise else "kernel"
    yield Tensor(f"params/{path}_conv/kernel", shape, layer.kind, place, 0, leaf)
    for template, leaf in _NORM:
        yield Tensor(template.format(path), shape[-1:], "vector", place, 1, leaf)


def _squeeze(path: str, layer: LayerSpec, place: Place) -> Iterator[Tensor]:
    features, squeezed = layer.features, layer.squeezed_features
    yield from _kernel_and_bias(f"{path}/reduce", (1, 1, features, squeezed), "squeeze", place, 0)
    yield from _kernel_and_bias(f"{path}/expand", (1, 1, squeezed, features), "squeeze", place, 1)


def _kernel_and_bias(path: str, shape: tuple[int, ...], kind: Kind, place: Place, module: int) -> Iterator[Tensor]:
    yield Tensor(f"params/{path}/kernel", shape, kind, place, module, "kernel")
    yield Tensor(f"params/{path}/bias", shape[-1:], "vector", place, module, "bias")
