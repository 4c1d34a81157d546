"""The network in TensorFlow's own operations.

A program of jax2tf would be one opaque operation (`XlaCallModule`), which TensorFlow compiles again for each batch size,
which fails for a symbolic batch with JAX 0.12 and TensorFlow 2.21, and which the converter to TFLite turns into
operations without kernels for depthwise convolutions. TensorFlow's own operations run on every version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.families import PreprocessingFamily
from effnetv2_jax.export.operations import IMAGES, Operation


def apply_operations(operations: Sequence[Operation], images: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Computes the logits `[N, classes]` of normalised images `[N, S, S, 3]`.

    Args:
      operations: the network.
      images: the images, float32.
      epsilon: the epsilon of BatchNorm, where it is not folded.
    """
    values = {IMAGES: images}
    for operation in operations:
        inputs = [values[name] for name in operation.inputs]
        if operation.kind == "conv":
            values[operation.output] = _conv(operation, inputs[0])
        elif operation.kind == "norm":
            values[operation.output] = _norm(operation.arrays, inputs[0], epsilon)
        else:
            values[operation.output] = _KINDS[operation.kind](operation.arrays, *inputs)
    return values[operations[-1].output]


def normalised(images: tf.Tensor, family: PreprocessingFamily) -> tf.Tensor:
    """Normalises pixels of any dtype, `[N, H, W, 3]` in 0..255, to float32."""
    return (tf.cast(images, tf.float32) - np.float32(family.mean)) * (1 / np.float32(family.std))


def _conv(operation: Operation, x: tf.Tensor) -> tf.Tensor:
    geometry, kernel = operation.geometry, operation.arrays["kernel"]
    assert geometry is not None
    padding = "SAME"
    if not operation.same_padding:
        x, padding = tf.pad(x, [(0, 0), *geometry.pads, (0, 0)]), "VALID"
    strides = [1, geometry.stride, geometry.stride, 1]
    if geometry.depthwise:
        y = tf.nn.depthwise_conv2d(x, kernel.transpose(0, 1, 3, 2), strides, padding)
    else:
        y = tf.nn.conv2d(x, kernel, strides, padding)
    bias = operation.arrays.get("bias")
    return y if bias is None else tf.nn.bias_add(y, bias)


def _norm(arrays: Mapping[str, np.ndarray], x: tf.Tensor, epsilon: float) -> tf.Tensor:
    factor = arrays["scale"] / np.sqrt(arrays["var"] + np.float32(epsilon))
    return x * factor + (arrays["bias"] - arrays["mean"] * factor)


def _dense(arrays: Mapping[str, np.ndarray], x: tf.Tensor) -> tf.Tensor:
    return tf.matmul(tf.squeeze(x, [1, 2]), arrays["kernel"]) + arrays["bias"]


# Kind of an operation → (its arrays, its inputs) → its output.
_KINDS: Mapping[str, Callable[..., tf.Tensor]] = {
    "silu": lambda _, x: x * tf.sigmoid(x),  # tf.nn.silu brings a gradient of its own, which a SavedModel cannot keep
    "sigmoid": lambda _, x: tf.sigmoid(x),
    "mean": lambda _, x: tf.reduce_mean(x, [1, 2], keepdims=True),
    "multiply": lambda _, x, gate: x * gate,
    "add": lambda _, x, y: x + y,
    "dense": _dense,
}
