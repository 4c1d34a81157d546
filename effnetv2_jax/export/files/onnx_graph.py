"""The network as an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from effnetv2_jax.data.images.families import PreprocessingFamily
from effnetv2_jax.export.operations import IMAGES, Operation
from effnetv2_jax.export.served_network import ServedNetwork

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "images", "logits"

OPSET = 17
"""Opset of the graph. It is from 2022, and so is known to runtimes that lag behind; later ones add nothing here."""

_IR_VERSION = 8
"""The version of the file format that came with opset 17."""


def onnx_model(network: ServedNetwork) -> onnx.ModelProto:
    """Returns the model: uint8 pixels `[N, S, S, 3]` → float32 logits `[N, classes]`, for any N.

    The feature maps are `[N, C, H, W]`, the only layout that ONNX's convolution has. The pixels are not, because
    decoders of images give `[H, W, 3]`.
    """
    from onnx import TensorProto, helper

    graph = _Graph(network.model.bn_epsilon)
    graph.add_images(network.family)
    for operation in network.operations():
        graph.add(operation)
    images = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", *network.image_shape()])
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", network.model.num_classes])
    made = helper.make_graph(graph.nodes, "effnetv2", [images], [logits], graph.weights)
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="effnetv2_jax"
    )


class _Graph:
    """Collects nodes and their weights."""

    def __init__(self, epsilon: float) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._epsilon = epsilon

    def add_images(self, family: PreprocessingFamily) -> None:
        """Adds what makes `IMAGES`, in ONNX's layout, of the pixels."""
        from onnx import TensorProto

        mean, std = (np.asarray(numbers, np.float32) for numbers in (family.mean, family.std))
        x = self._node("Cast", [INPUT], "pixels", to=TensorProto.FLOAT)
        x = self._node("Sub", [x, self._weight("mean", mean)], "centred")
        x = self._node("Mul", [x, self._weight("factor", 1 / std)], "scaled")
        self._node("Transpose", [x], IMAGES, perm=[0, 3, 1, 2])

    def add(self, operation: Operation) -> None:
        """Adds the nodes of an operation."""
        _KINDS[operation.kind](self, operation)

    def conv(self, operation: Operation) -> None:
        geometry, kernel = operation.geometry, operation.arrays["kernel"]
        assert geometry is not None
        (above, below), (left, right) = geometry.pads
        weights = {"kernel": kernel.transpose(3, 2, 0, 1)}  # a depthwise kernel becomes [C, 1, k, k]
        weights |= {name: array for name, array in operation.arrays.items() if name == "bias"}
        self._node(
            "Conv",
            [*operation.inputs, *(self._weight(f"{operation.output}/{name}", weights[name]) for name in weights)],
            operation.output,
            kernel_shape=[geometry.kernel_size] * 2,
            strides=[geometry.stride] * 2,
            pads=[above, left, below, right],
            group=kernel.shape[-1] if geometry.depthwise else 1,
        )

    def norm(self, operation: Operation) -> None:
        names = ("scale", "bias", "mean", "var")
        weights = [self._weight(f"{operation.output}/{name}", operation.arrays[name]) for name in names]
        self._node("BatchNormalization", [*operation.inputs, *weights], operation.output, epsilon=self._epsilon)

    def silu(self, operation: Operation) -> None:
        gate = self._node("Sigmoid", operation.inputs, f"{operation.output}/gate")
        self._node("Mul", [*operation.inputs, gate], operation.output)

    def dense(self, operation: Operation) -> None:
        weights = [self._weight(f"{operation.output}/{name}", operation.arrays[name]) for name in ("kernel", "bias")]
        flat = self._node("Flatten", operation.inputs, f"{operation.output}/flat")
        self._node("Gemm", [flat, *weights], operation.output)

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def _weight(self, name: str, array: np.ndarray) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        return name


def _single(kind: str) -> Callable[[_Graph, Operation], None]:
    """Returns what adds an operation that is one node without weights."""

    def add(graph: _Graph, operation: Operation) -> None:
        graph._node(kind, operation.inputs, operation.output)

    return add


_KINDS: Mapping[str, Callable[[_Graph, Operation], None]] = {
    "conv": _Graph.conv,
    "norm": _Graph.norm,
    "silu": _Graph.silu,
    "sigmoid": _single("Sigmoid"),
    "mean": _single("GlobalAveragePool"),
    "multiply": _single("Mul"),
    "add": _single("Add"),
    "dense": _Graph.dense,
}
