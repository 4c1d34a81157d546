"""TensorFlow Lite, which LiteRT runs: float32, or 8-bit integers.

TensorFlow contains the converter and maintains it. Its interpreter, `tf.lite.Interpreter`, announces its own removal
and names `ai-edge-litert`, which runs the file here.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.export.files.attached_files import attach
from effnetv2_jax.export.files.tensorflow_network import TensorflowNetwork
from effnetv2_jax.export.program import Program
from effnetv2_jax.export.served_network import ServedNetwork


def write(network: ServedNetwork, path: Path, calibration: np.ndarray | None = None) -> None:
    """Writes the program: uint8 pixels `[N, S, S, 3]` → float32 logits, for any N.

    Args:
      network: the network.
      path: the file.
      calibration: uint8 images `[M, S, S, 3]` whose activations give the ranges of 8-bit integers; None for float32.
    """
    module = TensorflowNetwork(network)
    pixels = tf.TensorSpec([None, *network.image_shape()], tf.uint8, name="images")
    function = tf.function(lambda images: {"logits": module(images)}, input_signature=[pixels], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _batches(calibration)
    path.write_bytes(converter.convert())
    attach(path, network)


def load(path: Path) -> Program:
    """Loads the program in LiteRT's interpreter.

    Raises:
      ValueError: if the file is not such a program.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    except ValueError as error:
        raise ValueError(f"{path} is no program of TensorFlow Lite: {error}") from error
    (images,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(batch: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(images["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(images["index"], batch)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(logits["index"]))

    interpreter.allocate_tensors()
    return Program(
        runtime=f"LiteRT {importlib.metadata.version('ai-edge-litert')}",
        image_shape=tuple(map(int, images["shape"][1:])),
        image_dtype=np.dtype(images["dtype"]),
        run=run,
    )


def _batches(calibration: np.ndarray) -> Iterator[list[np.ndarray]]:
    for image in calibration:
        yield [image[None]]
