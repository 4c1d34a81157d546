"""Reads official TensorFlow checkpoints from a downloaded archive, a folder, or the prefix of the files."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from effnetv2_jax.convert.formats.archive import copy_checkpoint, is_archive
from effnetv2_jax.convert.formats.digest import file_sha256
from effnetv2_jax.convert.formats.tensor_bundle import TensorBundle
from effnetv2_jax.convert.formats.tensor_file import MAX_WEIGHT_BYTES, TensorFile
from effnetv2_jax.regular_file import checked_size

_AVERAGE = "/ExponentialMovingAverage"
# The variables that optimisers store next to a model's.
# Source: TensorFlow 1's slot creator; google/automl efficientnetv2/utils.py.
_SLOT = re.compile(r"/(RMSProp|Momentum|Adam|Adagrad|SGD|LARS)\w*$")
_STEM = "/stem/conv2d/kernel"
# The scope of the classifier depends on the version of Keras that wrote the checkpoint.
_HEAD = re.compile(r"^head/dense/")
_MAX_LATEST = 1 << 20  # bytes of the file that names the latest checkpoint
_PART = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")


def is_checkpoint(path: epath.Path) -> bool:
    """Whether a path is an archive, a folder with a checkpoint, or the prefix or a file of a checkpoint."""
    if path.is_dir():
        return any(True for _ in path.glob("*.index"))
    return path.exists() if is_archive(path) else _index(_without_part(path)).exists()


def checkpoint_files(path: epath.Path) -> list[epath.Path]:
    """Returns the files that reading a checkpoint needs; `gs://` paths work too.

    Raises:
      FileNotFoundError: if a folder contains more than one checkpoint.
    """
    if is_archive(path):
        return [path]
    prefix = _prefix(path)
    return [_index(prefix), *sorted(prefix.parent.glob(f"{prefix.name}.data-*"))]


@contextlib.contextmanager
def open_checkpoint(path: Path, *, moving_average: bool) -> Iterator[TensorFile]:
    """Opens an official checkpoint. Names omit the model's scope, as in `blocks_0/conv2d/kernel`.

    Args:
      path: the archive, a folder with one checkpoint, or the prefix or one of the files of a checkpoint.
      moving_average: whether to read the moving average of each variable instead of the variable itself.

    Raises:
      ValueError: for a damaged or hostile archive, a damaged checkpoint, a checkpoint without the averaged or raw
        weights that are asked for, or a checkpoint of another model.
      OSError: if there is no checkpoint, or a part of it is missing.
    """
    with contextlib.ExitStack() as stack:
        if path.is_file() and is_archive(path):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="effnetv2_")))
            prefix = copy_checkpoint(path, folder)
            digest = file_sha256(path)
        else:
            prefix = _prefix(path)
            data = sorted(prefix.parent.glob(f"{prefix.name}.data-*"))
            for file in data:
                checked_size(file, MAX_WEIGHT_BYTES)
            digest = file_sha256(*data)
        yield _open(prefix, moving_average, digest, str(path))


def _without_part(path: Path) -> Path:
    return path.with_name(_PART.sub("", path.name))


def _index(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def _prefix(path: Path) -> Path:
    """Returns the prefix of the one checkpoint in a folder, or of the checkpoint that a prefix or a file belongs to."""
    if not path.is_dir():
        prefix = _without_part(path)
        if not _index(prefix).exists():
            raise FileNotFoundError(f"{path} is neither an archive nor a checkpoint: {_index(prefix)} is missing")
        return prefix
    prefixes = {file.name.removesuffix(".index") for file in path.glob("*.index")}
    latest = path / "checkpoint"
    if len(prefixes) > 1 and latest.exists() and checked_size(latest, _MAX_LATEST):
        text = latest.read_bytes().decode(errors="replace")
        found = re.search(r'^model_checkpoint_path:\s*"([^"]*)"', text, re.MULTILINE)
        prefixes &= {Path(found[1]).name} if found else set()
    if len(prefixes) != 1:
        names = ", ".join(sorted(file.name.removesuffix(".index") for file in path.glob("*.index"))) or "none"
        raise FileNotFoundError(f"{path} must contain one checkpoint (an .index file with its data), found {names}")
    return path / prefixes.pop()


def _open(prefix: Path, moving_average: bool, digest: str, shown: str) -> TensorFile:
    """Opens the checkpoint at a prefix. Error messages call it `shown`."""
    try:
        bundle = TensorBundle(prefix)
    except ValueError as error:
        raise ValueError(f"{shown} is damaged or not a checkpoint: {error}") from error
    shapes = {name: entry.shape for name, entry in bundle.entries.items()}
    stored = _stored_names(shapes, moving_average, shown)

    def read(name: str) -> np.ndarray:
        try:
            return bundle.read(stored[name])
        except ValueError as error:
            raise ValueError(f"{shown}: {error}") from error

    metadata = {"averaging": "averaged" if moving_average else "raw"}
    return TensorFile({name: shapes[full] for name, full in stored.items()}, read, metadata, digest)


def _stored_names(shapes: Mapping[str, Any], moving_average: bool, shown: str) -> dict[str, str]:
    """Returns variable name without the model's scope → name of the tensor to read for it."""
    variables = {name.removesuffix(_AVERAGE) for name in shapes}
    models = {name.removesuffix(_STEM) for name in variables if name.endswith(_STEM)}
    if len(models) != 1:
        raise ValueError(f"{shown} is not an official checkpoint: it has {len(models)} models with a variable *{_STEM}")
    scope = models.pop() + "/"
    stored: dict[str, str] = {}
    for name in sorted(variables):
        if not name.startswith(scope) or _SLOT.search(name):
            continue
        full = name + _AVERAGE if moving_average else name
        if full not in shapes:
            missing, other = ("moving average", "raw") if moving_average else ("raw value", "averaged")
            raise ValueError(f"{shown} has no {missing} of {name}; it may have {other} weights")
        short = _HEAD.sub("head_1/dense/", name.removeprefix(scope))
        if short in stored:
            raise ValueError(f"{shown} has two classifiers: {stored[short]} and {full}")
        stored[short] = full
    return stored
