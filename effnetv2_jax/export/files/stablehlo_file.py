"""StableHLO: a program that JAX wrote with `jax.export`, for CPUs, Nvidia GPUs and TPUs."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.export
import numpy as np

from effnetv2_jax.export.files.attached_files import attach
from effnetv2_jax.export.program import Program
from effnetv2_jax.export.served_network import ServedNetwork

PLATFORMS = ("cpu", "cuda", "tpu")
"""The platforms that one file holds the program for."""


def write(network: ServedNetwork, path: Path) -> None:
    """Writes the program for batches of any size."""
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *network.image_shape()), network.input_dtype)
    exported = jax.export.export(jax.jit(network.logits), platforms=PLATFORMS)(images)
    path.write_bytes(exported.serialize())
    attach(path, network)


def load(path: Path) -> Program:
    """Loads the program as a process without this project does.

    Raises:
      ValueError: if the file is not such a program, or not for the platform of this process.
    """
    try:
        exported = jax.export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:  # the reader of damaged bytes raises all kinds of exceptions
        raise ValueError(f"{path} is not a StableHLO program that jax.export wrote: {error}") from error
    run = jax.jit(exported.call)
    (images,) = exported.in_avals
    return Program(
        runtime=f"JAX {jax.__version__}",
        image_shape=tuple(images.shape[1:]),
        image_dtype=np.dtype(images.dtype),
        run=lambda batch: np.asarray(run(batch)),
    )
