"""The official TensorFlow checkpoints: a `.tgz` as downloaded, a folder, or a checkpoint's prefix."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from effnetv2_jax.convert.formats.archive import copy_checkpoint, is_archive
from effnetv2_jax.convert.formats.tensor_bundle import TensorBundle
from effnetv2_jax.convert.formats.tensor_file import TensorFile
from effnetv2_jax.model.provenance import file_sha256

_AVERAGE = "/ExponentialMovingAverage"
# Slots of the optimisers beside a variable. Source: TensorFlow 1's slot creator; google/automl efficientnetv2/utils.py.
_SLOT = re.compile(r"/(RMSProp|Momentum|Adam|Adagrad|SGD|LARS)\w*$")
_STEM = "/stem/conv2d/kernel"
# The classifier's scope depends on the Keras that wrote the checkpoint.
_HEAD = re.compile(r"^head/dense/")


@contextlib.contextmanager
def open_checkpoint(path: Path, *, moving_average: bool) -> Iterator[TensorFile]:
    """Opens an official checkpoint; names come without the model's, as in `blocks_0/conv2d/kernel`.

    Args:
      path: the archive, a folder with one checkpoint, or the prefix of the checkpoint's files.
      moving_average: whether to read each variable's moving average, or the variable itself.

    Raises:
      ValueError: for a damaged or hostile archive or checkpoint, one without the averages asked for, or one that holds
        another kind of model.
      OSError: if there is no checkpoint, or a part of it is missing.
    """
    with contextlib.ExitStack() as stack:
        if path.is_file() and is_archive(path):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="effnetv2_")))
            prefix = copy_checkpoint(path, folder)
            digest = file_sha256(path)
        else:
            prefix = _prefix(path)
            digest = file_sha256(*sorted(prefix.parent.glob(f"{prefix.name}.data-*")))
        yield _open(prefix, moving_average, digest, str(path))


def _prefix(path: Path) -> Path:
    """Returns the prefix of the one checkpoint that a folder, a prefix or one of its files means."""
    if not path.is_dir():
        prefix = path.with_name(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name))
        if not prefix.with_name(prefix.name + ".index").is_file():
            raise FileNotFoundError(f"no official checkpoint at {path}: no archive, and no {prefix.name}.index")
        return prefix
    prefixes = {file.name.removesuffix(".index") for file in path.glob("*.index")}
    latest = path / "checkpoint"
    if len(prefixes) > 1 and latest.is_file():
        said = re.search(r'^model_checkpoint_path:\s*"([^"]*)"', latest.read_text(errors="replace"), re.MULTILINE)
        prefixes &= {Path(said[1]).name} if said else set()
    if len(prefixes) != 1:
        found = ", ".join(sorted(prefixes)) or "none"
        raise FileNotFoundError(f"{path} must hold one checkpoint (a file .index and its .data), it has {found}")
    return path / prefixes.pop()


def _open(prefix: Path, moving_average: bool, digest: str, said: str) -> TensorFile:
    try:
        bundle = TensorBundle(prefix)
    except ValueError as error:
        raise ValueError(f"{said} is damaged or no checkpoint: {error}") from error
    shapes = {name: entry.shape for name, entry in bundle.entries.items()}
    stored = _stored_names(shapes, moving_average, said)

    def read(name: str) -> np.ndarray:
        try:
            return bundle.read(stored[name])
        except ValueError as error:
            raise ValueError(f"{said}: {error}") from error

    facts = {"averaging": "averaged" if moving_average else "raw"}
    return TensorFile({name: shapes[full] for name, full in stored.items()}, read, facts, digest)


def _stored_names(shapes: Mapping[str, Any], moving_average: bool, said: str) -> dict[str, str]:
    """Returns the model's variables: the name without the model's → the checkpoint's name of the value to read."""
    variables = {name.removesuffix(_AVERAGE) for name in shapes}
    models = {name.removesuffix(_STEM) for name in variables if name.endswith(_STEM)}
    if len(models) != 1:
        raise ValueError(f"{said} is no official checkpoint: it has {len(models)} models with a variable *{_STEM}")
    scope = models.pop() + "/"
    stored: dict[str, str] = {}
    for name in sorted(variables):
        if not name.startswith(scope) or _SLOT.search(name):
            continue
        full = name + _AVERAGE if moving_average else name
        if full not in shapes:
            what, other = ("moving average", "raw") if moving_average else ("raw value", "averaged")
            raise ValueError(f"{said} has no {what} of {name}; the {other} weights may be there")
        short = _HEAD.sub("head_1/dense/", name.removeprefix(scope))
        if short in stored:
            raise ValueError(f"{said} has two classifiers: {stored[short]} and {full}")
        stored[short] = full
    return stored
