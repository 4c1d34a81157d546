"""The network as a list of operations, from which it is written for runtimes other than JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from effnetv2_jax.model.efficientnetv2 import EfficientNetV2
from effnetv2_jax.model.lax_convolution import Geometry, explicit_padding
from effnetv2_jax.model.specs import LayerSpec

IMAGES = "normalised_images"
"""The name of the input of the first operation: normalised images, float32 `[N, S, S, 3]`."""

Kind = Literal["conv", "norm", "silu", "sigmoid", "mean", "multiply", "add", "dense"]


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation on feature maps `[N, H, W, C]`.

    Attributes:
      kind: `conv` has a `kernel` in Flax's layout, and a `bias` or none; `norm` has the arrays `scale`, `bias`, `mean`
        and `var` of BatchNorm; `mean` is taken over H and W and keeps them as 1; `multiply` and `add` have two inputs;
        `dense` has a `kernel` `[C, classes]` and a `bias`, and makes `[N, classes]` of `[N, 1, 1, C]`.
      inputs: names of its inputs: outputs of operations before it, or `IMAGES`.
      output: name of its output.
      arrays: its weights by name, float32.
      geometry: for `conv`: kernel size, stride, padding, and whether it is depthwise.
      same_padding: for `conv`: whether the padding is that of TensorFlow's SAME.
    """

    kind: Kind
    inputs: tuple[str, ...]
    output: str
    arrays: Mapping[str, np.ndarray]
    geometry: Geometry | None = None
    same_padding: bool = True


def network_operations(model: EfficientNetV2, variables: Mapping[str, Any], image_size: int) -> list[Operation]:
    """Returns the operations of a network for inference, in order; the last one's output is the logits.

    Args:
      model: the network, with a classifier; its BatchNorm may be folded.
      variables: its variables as NumPy arrays.
      image_size: side of the images in pixels.
    """
    recorder = _Recorder(model, image_size)
    params, statistics = variables["params"], variables.get("batch_stats", {})
    x = recorder.layer(model.spec.stem, IMAGES, "", params, statistics)
    for index, block in enumerate(model.spec.blocks()):
        name, y = f"block_{index}", x
        for layer in block.layers():
            y = recorder.layer(layer, y, f"{name}/", params[name], statistics.get(name, {}))
        x = recorder.add("add", f"{name}/sum", (x, y)) if block.has_residual else y
    x = recorder.layer(model.spec.head, x, "", params, statistics)
    x = recorder.add("mean", "pooled_features", (x,))
    recorder.add("dense", "logits", (x,), params["classifier"])
    return recorder.operations


class _Recorder:
    """Records operations, and keeps the side of the feature maps, which the padding depends on."""

    def __init__(self, model: EfficientNetV2, image_size: int) -> None:
        self.operations: list[Operation] = []
        self._model = model
        self._size = image_size

    def add(self, kind: Kind, name: str, inputs: tuple[str, ...], arrays: Mapping[str, Any] | None = None) -> str:
        """Records an operation without geometry and returns the name of its output."""
        self.operations.append(Operation(kind, inputs, name, _host_arrays(arrays or {})))
        return name

    def layer(
        self, layer: LayerSpec, x: str, prefix: str, params: Mapping[str, Any], statistics: Mapping[str, Any]
    ) -> str:
        """Records a layer and returns the name of its output."""
        name = f"{prefix}{layer.name}"
        if layer.kind == "squeeze":
            return self._squeeze(x, name, params[layer.name])
        x = self._conv(layer, x, f"{name}_conv", params[f"{layer.name}_conv"])
        norm = f"{layer.name}_norm"
        if norm in params:
            x = self.add("norm", f"{prefix}{norm}", (x,), {**params[norm], **statistics[norm]})
        return self.add("silu", f"{name}_silu", (x,)) if layer.activated else x

    def _conv(self, layer: LayerSpec, x: str, name: str, arrays: Mapping[str, Any]) -> str:
        side = (self._size, layer.kernel_size, layer.stride)
        pads = explicit_padding(*side, self._model.padding)
        geometry = Geometry(layer.kernel_size, layer.stride, (pads, pads), layer.kind == "depthwise")
        same = pads == explicit_padding(*side, "same")
        self.operations.append(Operation("conv", (x,), name, _host_arrays(arrays), geometry, same))
        self._size = (self._size + sum(pads) - layer.kernel_size) // layer.stride + 1
        return name

    def _squeeze(self, x: str, name: str, params: Mapping[str, Any]) -> str:
        pointwise = Geometry(1, 1, ((0, 0), (0, 0)), depthwise=False)
        y = self.add("mean", f"{name}/mean", (x,))
        for part, activation in (("reduce", "silu"), ("expand", "sigmoid")):
            output = f"{name}/{part}"
            self.operations.append(Operation("conv", (y,), output, _host_arrays(params[part]), pointwise))
            y = self.add("silu" if activation == "silu" else "sigmoid", f"{output}_{activation}", (output,))
        return self.add("multiply", f"{name}/scaled", (x, y))


def _host_arrays(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}
