"""ONNX: a graph of a few kinds of nodes, written directly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from effnetv2_jax.export.files.onnx_graph import onnx_model
from effnetv2_jax.export.program import Program
from effnetv2_jax.export.served_network import ServedNetwork


def write(network: ServedNetwork, path: Path) -> None:
    """Writes the model, with the provenance and the class names as its metadata, and lets ONNX's checker check it."""
    import onnx

    model = onnx_model(network)
    onnx.helper.set_model_props(model, network.description())
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def load(path: Path) -> Program:
    """Loads the model in ONNX Runtime on the CPU.

    Raises:
      ValueError: if ONNX Runtime cannot load the file.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # the classes of its errors derive from Exception itself
        raise ValueError(f"{path} is no model that ONNX Runtime can load: {error}") from error
    (images,) = session.get_inputs()
    return Program(
        runtime=f"ONNX Runtime {onnxruntime.__version__}",
        image_shape=tuple(images.shape[1:]),
        image_dtype=np.dtype(np.uint8),
        run=lambda batch: session.run(None, {images.name: batch})[0],
    )
