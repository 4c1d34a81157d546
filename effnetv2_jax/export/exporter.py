"""Exports weights as a program for another runtime, and verifies the program before it appears."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from effnetv2_jax.convert.atomic_write import replacing
from effnetv2_jax.convert.weights import Weights
from effnetv2_jax.export.calibration import calibration_images
from effnetv2_jax.export.formats import ExportDtype, ExportFormat, FormatName, format_named
from effnetv2_jax.export.served_network import ServedNetwork, served_network
from effnetv2_jax.export.verification import LEAST_AGREEMENT, Check, compare_classes, compare_logits, compare_served


@dataclasses.dataclass(frozen=True)
class Export:
    """The result of an export.

    Attributes:
      path: the file or folder that was written.
      size_bytes: its size.
      runtime: name and version of the runtime that ran it.
      checks: the comparisons with the network; all of them passed.
    """

    path: Path
    size_bytes: int
    runtime: str
    checks: tuple[Check, ...]


def export_model(
    weights: Weights,
    path: str | Path,
    *,
    to: FormatName,
    dtype: ExportDtype = "float32",
    fold_batch_norm: bool = True,
    normalises: bool = True,
    calibration: Sequence[Path] = (),
    least_agreement: float = LEAST_AGREEMENT,
) -> Export:
    """Writes a program that computes the logits of weights, runs it, and compares it with the network.

    The program takes uint8 RGB pixels `[N, S, S, 3]` for any N, where S is the evaluation size of the weights,
    normalises them, and returns float32 logits `[N, classes]`. If the comparison fails, nothing is left behind.

    Args:
      weights: the weights, as `load_weights` returns them.
      path: the file, or the folder for `savedmodel`; it must not exist.
      to: the format: `stablehlo`, `savedmodel`, `tflite` or `onnx`.
      dtype: what the program computes in: `float32`, for `stablehlo` also `bfloat16`, for `tflite` also `int8`.
      fold_batch_norm: whether BatchNorm is folded into the kernels, see `fold_batch_norm`.
      normalises: whether the program normalises its images. Without, which only `stablehlo` has, it takes normalised
        images, float32.
      calibration: image files whose activations give the ranges of `int8`, which needs them; 100 are enough.
      least_agreement: the share of the calibration images whose most probable class `int8` must keep.

    Raises:
      ValueError: for an unknown format, a dtype that the format does not have, `int8` without calibration images or
        calibration images without `int8`, weights without a classifier, an image size that is too small, a damaged
        image, a path of another suffix, or a program whose results differ too much from the network's.
      ModuleNotFoundError: if a package of the format is not installed.
      OSError: if the path exists, cannot be written to, or an image cannot be read.
    """
    known = format_named(to)
    _check(known, dtype, normalises, calibration, least_agreement)
    output = known.check_output(path)
    implementation = known.implementation()
    network = served_network(
        weights,
        fold=fold_batch_norm,
        normalises=normalises,
        dtype=jnp.bfloat16 if dtype == "bfloat16" else jnp.float32,
    )
    images = calibration_images(network, calibration) if dtype == "int8" else None
    with replacing(output) as temporary:
        implementation.write(network, temporary, *([] if images is None else [images]))
        runtime, checks = _checks(known, implementation, temporary, weights, network, dtype, images, least_agreement)
        failed = [str(check) for check in checks if not check.passed]
        if failed:
            raise ValueError(f"nothing was written: {'; '.join(failed)}")
        size = byte_size(temporary)
    return Export(output, size, runtime, checks)


def byte_size(path: Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else (path,)) if file.is_file())


def _check(
    known: ExportFormat, dtype: ExportDtype, normalises: bool, calibration: Sequence[Path], least_agreement: float
) -> None:
    if dtype not in known.dtypes:
        raise ValueError(f"the format {known.name} computes in {' or '.join(known.dtypes)}, not in {dtype}")
    if not normalises and known.name != "stablehlo":
        raise ValueError(f"the format {known.name} always normalises its images; only stablehlo can leave it out")
    if (dtype == "int8") != bool(calibration):
        raise ValueError("int8 and calibration images go together, because their activations give its ranges")
    for path in calibration:
        if not path.is_file():
            why = "is a folder without images" if path.is_dir() else "does not exist"
            raise FileNotFoundError(f"calibration images: {path} {why}")
    if not 0 <= least_agreement <= 1:
        raise ValueError(f"least_agreement must be 0 to 1, got {least_agreement}")


def _checks(
    known: ExportFormat,
    implementation: Any,
    path: Path,
    weights: Weights,
    network: ServedNetwork,
    dtype: ExportDtype,
    images: np.ndarray | None,
    least_agreement: float,
) -> tuple[str, tuple[Check, ...]]:
    """Runs the program in its runtime. Returns the runtime and the comparisons."""
    program = implementation.load(path)
    if images is not None:
        return program.runtime, (compare_classes(program, weights, images, least_agreement),)
    checks = [compare_logits(program, weights, network, dtype)]
    if known.name == "savedmodel":
        scratch = path.with_name(f"{path.name}.jpg")
        checks.append(compare_served(lambda encoded: implementation.serve(path, encoded), weights, network, scratch))
    return program.runtime, tuple(checks)
