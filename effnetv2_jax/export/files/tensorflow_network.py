"""The network in TensorFlow's own operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.export.operations import IMAGES, Operation
from effnetv2_jax.export.served_network import ServedNetwork


class TensorflowNetwork(tf.Module):
    """The network as a TensorFlow module: pixels `[N, S, S, 3]` in 0..255 → float32 logits `[N, classes]`.

    The pixels may have any dtype. The weights are variables, since a graph with more than 2 GB of constants cannot be
    saved.
    """

    def __init__(self, network: ServedNetwork) -> None:
        super().__init__()
        self.network = network
        self._operations: Sequence[Operation] = network.operations()
        self._weights = {
            operation.output: {
                name: tf.Variable(array, trainable=False, name=f"{operation.output}/{name}")
                for name, array in _weights(operation, network.model.bn_epsilon).items()
            }
            for operation in self._operations
        }

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Computes the logits."""
        mean, std = (np.asarray(numbers, np.float32) for numbers in (self.network.family.mean, self.network.family.std))
        # A product, because TensorFlow Lite has no division of integers.
        values = {IMAGES: (tf.cast(images, tf.float32) - mean) * (1 / std)}
        for operation in self._operations:
            inputs = [values[name] for name in operation.inputs]
            values[operation.output] = _KINDS[operation.kind](operation, self._weights[operation.output], *inputs)
        return values[self._operations[-1].output]


def _weights(operation: Operation, epsilon: float) -> Mapping[str, np.ndarray]:
    """Returns the weights of an operation as TensorFlow takes them, by name."""
    arrays = operation.arrays
    if operation.kind == "norm":
        factor = arrays["scale"] / np.sqrt(arrays["var"] + np.float32(epsilon))
        return {"factor": factor, "offset": arrays["bias"] - arrays["mean"] * factor}
    if operation.geometry is not None and operation.geometry.depthwise:
        return {**arrays, "kernel": arrays["kernel"].transpose(0, 1, 3, 2)}
    return arrays


def _conv(operation: Operation, weights: Mapping[str, Any], x: tf.Tensor) -> tf.Tensor:
    geometry, padding = operation.geometry, "SAME"
    assert geometry is not None
    if not operation.same_padding:
        x, padding = tf.pad(x, [(0, 0), *geometry.pads, (0, 0)]), "VALID"
    convolution = tf.nn.depthwise_conv2d if geometry.depthwise else tf.nn.conv2d
    y = convolution(x, weights["kernel"], [1, geometry.stride, geometry.stride, 1], padding)
    return tf.nn.bias_add(y, weights["bias"]) if "bias" in weights else y


def _dense(_: Operation, weights: Mapping[str, Any], x: tf.Tensor) -> tf.Tensor:
    return tf.matmul(tf.squeeze(x, [1, 2]), weights["kernel"]) + weights["bias"]


# Kind of an operation → (the operation, its weights, its inputs) → its output.
_KINDS: Mapping[str, Callable[..., tf.Tensor]] = {
    "conv": _conv,
    "norm": lambda _, weights, x: x * weights["factor"] + weights["offset"],
    "silu": lambda _, __, x: x * tf.sigmoid(x),  # tf.nn.silu has a gradient of its own, which cannot be saved
    "sigmoid": lambda _, __, x: tf.sigmoid(x),
    "mean": lambda _, __, x: tf.reduce_mean(x, [1, 2], keepdims=True),
    "multiply": lambda _, __, x, gate: x * gate,
    "add": lambda _, __, x, y: x + y,
    "dense": _dense,
}
