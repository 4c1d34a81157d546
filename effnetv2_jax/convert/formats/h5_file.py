"""Reads the weights that Keras saves in HDF5: `.weights.h5` of Keras 3, and the older `.h5`.

Tensors are named by their layer and their weight, as in `block1a_project_bn/gamma`, in both layouts.
Source of the layouts: keras 3.15.1 saving/saving_lib.py, and legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from effnetv2_jax.convert.formats.digest import file_sha256
from effnetv2_jax.convert.formats.h5_contents import checked_datasets
from effnetv2_jax.convert.formats.tensor_file import TensorFile

H5_SUFFIXES = (".h5", ".hdf5")

# Keras 3 numbers the weights of a layer in this order, by the class of the layer.
_WEIGHTS = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
_KERAS_3 = re.compile(r"(?:.*/)?(?P<layer>[^/]+?)(?:_\d+)?/vars/(?P<number>\d+)")
_OLDER = re.compile(r"(?:model_weights/)?(?P<layer>[^/]+)/(?:.*/)?(?P<weight>[^/:]+)(?::0)?")
_NO_WEIGHTS = ("optimizer_weights/", "optimizer/", "seed_generator/", "normalization/", "normalization_1/")


@contextlib.contextmanager
def open_h5(path: Path) -> Iterator[TensorFile]:
    """Opens a file of Keras.

    Raises:
      ImportError: if h5py is not installed.
      ValueError: for a file that is damaged or has anything but tensors that lie within it.
      OSError: if the file does not exist or cannot be read.
    """
    path.open("rb").close()  # raises OSError for a missing file even if h5py is not installed
    h5py = _h5py()
    with contextlib.ExitStack() as stack:
        with _damage_named(path):
            file = stack.enter_context(h5py.File(path, "r", locking=False))
            datasets = dict(_named(file, checked_datasets(h5py, file, path)))

        def read(name: str) -> np.ndarray:
            with _damage_named(path):
                return _read(datasets[name], name)

        shapes = {name: tuple(dataset.shape) for name, dataset in datasets.items()}
        yield TensorFile(shapes, read, {}, file_sha256(path))


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """A context in which the errors that h5py raises for damaged files become ValueErrors that name the file."""
    try:
        yield
    except (RuntimeError, KeyError, OSError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
        raise ValueError(f"{path} is damaged or not a file of Keras: {_first_line(error)}") from error


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("reading .h5 files needs the extra 'keras': pip install 'effnetv2_jax[keras]'") from error
    return h5py


def _named(file: Any, datasets: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yields each tensor with its name.

    Raises:
      ValueError: if two have the same name, or a layer has none.
    """
    found: set[str] = set()
    for full, dataset in datasets:
        name = _keras_3_name(file, full) if "/vars/" in full else _older_name(full)
        if name is None:
            continue
        if name in found:
            raise ValueError(f"it has two tensors {name!r}")
        found.add(name)
        yield name, dataset


def _keras_3_name(file: Any, full: str) -> str | None:
    """Returns the name of a tensor; None if it is no weight of a layer. Its group records the name of the layer."""
    parts = _KERAS_3.fullmatch(full)
    if parts is None or parts["layer"] not in _WEIGHTS:
        return None if full.startswith(_NO_WEIGHTS) else full
    layer = file[full.rpartition("/")[0]].attrs.get("name")
    if not isinstance(layer, str):
        raise ValueError(
            f"its group {full.rpartition('/')[0]!r} does not record the name of a layer, as files of older versions of "
            "Keras 3; load the file in a newer one and save it again"
        )
    weights = _WEIGHTS[parts["layer"]]
    number = int(parts["number"])
    return f"{layer}/{weights[number]}" if number < len(weights) else full


def _older_name(full: str) -> str | None:
    if full.startswith(_NO_WEIGHTS):
        return None
    parts = _OLDER.fullmatch(full)
    return f"{parts['layer']}/{parts['weight'].removeprefix('depthwise_')}" if parts else full


def _read(dataset: Any, name: str) -> np.ndarray:
    if dataset.dtype.kind != "f":
        raise ValueError(f"{name} is {dataset.dtype.name}; weights must be floating-point numbers")
    return np.asarray(dataset[()])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
