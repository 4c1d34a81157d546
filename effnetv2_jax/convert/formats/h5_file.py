"""Reads the weights that Keras saves in HDF5: `.weights.h5` of Keras 3, and the older `.h5`.

Tensors are named by their layer and their weight, as in `block1a_project_bn/gamma`, in both layouts.
Source of the layouts: keras 3.15.1 saving/saving_lib.py, and legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from effnetv2_jax.convert.formats.digest import file_sha256
from effnetv2_jax.convert.formats.tensor_file import MAX_WEIGHT_BYTES, TensorFile
from effnetv2_jax.regular_file import checked_size
from effnetv2_jax.untrusted_json import MAX_JSON_BYTES, parse_json

H5_SUFFIXES = (".h5", ".hdf5")

_READER = Path(__file__).with_name("h5_reader.py")
_REFUSED = 3  # the reader's exit code, as in h5_reader.py, which cannot be imported without h5py
_SECONDS, _BYTES_PER_SECOND = 30, 5e6  # for a small file, the reader takes less than a second


@contextlib.contextmanager
def open_h5(path: Path) -> Iterator[TensorFile]:
    """Opens a file of Keras.

    Another process reads it, see `h5_reader.py`, and leaves the tensors in a temporary file.

    Raises:
      ImportError: if h5py is not installed.
      ValueError: for a file that is damaged or has anything but tensors that lie within it.
      OSError: if the file does not exist or cannot be read.
    """
    size = checked_size(path, MAX_WEIGHT_BYTES)
    path.open("rb").close()  # raises OSError for a file that may not be read
    if importlib.util.find_spec("h5py") is None:
        raise ImportError("reading .h5 files needs the extra 'keras': pip install 'effnetv2_jax[keras]'")
    with tempfile.TemporaryFile() as tensors:
        _read_into(tensors, path, math.ceil(_SECONDS + size / _BYTES_PER_SECOND))
        tensors.seek(0)
        header = parse_json(tensors.readline(MAX_JSON_BYTES))
        places, offset = {}, tensors.tell()
        for name, (shape, described) in header.items():
            dtype = np.dtype(described)
            places[name] = (offset, tuple(shape), dtype)
            offset += math.prod(shape) * dtype.itemsize if dtype.kind == "f" else 0

        def read(name: str) -> np.ndarray:
            start, shape, dtype = places[name]
            if dtype.kind != "f":
                raise ValueError(f"{name} is {dtype.name}; weights must be floating-point numbers")
            tensors.seek(start)
            return np.fromfile(tensors, dtype, math.prod(shape)).reshape(shape)

        yield TensorFile({name: place[1] for name, place in places.items()}, read, {}, file_sha256(path))


def _read_into(output: IO[bytes], path: Path, seconds: int) -> None:
    """Reads a file of Keras in another process, whose output goes into an open file.

    Raises:
      ValueError: if the file is refused, or the process takes too long or crashes.
    """
    damaged = f"{path} is damaged or not a file of Keras"
    command = [sys.executable, "-P", str(_READER), str(path.absolute()), str(seconds)]
    try:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{damaged}: libhdf5 has not read it within {seconds} s") from None
    if ended.returncode == _REFUSED:
        raise ValueError(f"{damaged}: {ended.stderr.decode(errors='replace').strip().splitlines()[-1]}")
    if ended.returncode:
        raise ValueError(f"{damaged}: libhdf5 was ended after {seconds} s of work, or crashed, reading it")
