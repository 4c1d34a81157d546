"""Reads and writes safetensors files one tensor at a time.

Source of the format: the safetensors README.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors

from effnetv2_jax.convert.formats.digest import file_sha256
from effnetv2_jax.convert.formats.tensor_file import MAX_WEIGHT_BYTES, TensorFile
from effnetv2_jax.regular_file import checked_size
from effnetv2_jax.untrusted_json import MAX_JSON_BYTES, parse_json

DIGEST = "tensors_sha256"
"""The header's key for the digest of the tensors, in files that this project wrote."""

_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16, "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "u1"}


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[TensorFile]:
    """Opens a safetensors file. bfloat16 tensors are read as `ml_dtypes.bfloat16`.

    If the file has a digest of its tensors, and all of them except scalars were read, leaving the context verifies it.

    Raises:
      ValueError: for a file that is damaged or not a safetensors file.
      OSError: if the file does not exist or cannot be read.
    """
    size = checked_size(path, MAX_WEIGHT_BYTES)
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > MAX_JSON_BYTES:
            claim = f"its header claims {length:,} bytes" if len(start) == 8 else f"it has {size} bytes"
            raise ValueError(f"{path} is damaged or not a safetensors file: {claim}")
        try:
            with safetensors.safe_open(path, framework="numpy") as checked:
                metadata = dict(checked.metadata() or {})
            header = parse_json(file.read(length))
        except (safetensors.SafetensorError, ValueError) as error:
            raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error
        header.pop("__metadata__", None)
        digests: dict[str, str] = {}

        def read(name: str) -> np.ndarray:
            value = _read(file, 8 + length, header[name], name)
            digests[name] = hashlib.sha256(value.reshape(-1).view(np.uint8).data).hexdigest()
            return value

        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        yield TensorFile(shapes, read, metadata, file_sha256(path))
    every = {name for name, shape in shapes.items() if shape}
    if DIGEST in metadata and digests.keys() == every and _combined(digests) != metadata[DIGEST]:
        raise ValueError(f"{path} is damaged: its tensors do not match their digest")


def _read(file: BinaryIO, start: int, entry: Mapping[str, Any], name: str) -> np.ndarray:
    """Reads one tensor. The library would map the whole file, whose pages count as memory of the process."""
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"{name} is {entry['dtype']}; known types: {', '.join(_DTYPES)}")
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"]
    file.seek(start + entry["data_offsets"][0])
    try:
        return np.fromfile(file, dtype, math.prod(shape)).reshape(shape)
    except (ValueError, OverflowError) as error:  # dimensions that NumPy cannot represent, next to one of 0
        raise ValueError(f"{name} has the shape {shape}") from error


def write_safetensors(
    path: Path,
    tensors: Mapping[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]],
    metadata: Mapping[str, str],
    counters: Sequence[str] = (),
) -> None:
    """Writes a file. Its header also gets a digest of the tensors.

    Args:
      path: the file.
      tensors: name → the shape of a tensor, and a function that returns it, which is called just before it is written.
        Tensors are written as float32.
      metadata: the strings of the header.
      counters: names of int64 scalars, which are written as zeros.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata) | {DIGEST: "0" * 64}}
    end = 0
    for name in counters:
        header[name] = {"dtype": "I64", "shape": [], "data_offsets": [end, end + 8]}
        end += 8
    for name, (shape, _) in tensors.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    digests = {}
    with path.open("wb") as file:
        _write_header(file, header)
        file.write(bytes(8 * len(counters)))
        for name, (_, tensor) in tensors.items():
            data = np.ascontiguousarray(tensor(), "<f4").tobytes()
            digests[name] = hashlib.sha256(data).hexdigest()
            file.write(data)
        file.seek(0)
        header["__metadata__"][DIGEST] = _combined(digests)
        _write_header(file, header)


def _write_header(file: BinaryIO, header: Mapping[str, Any]) -> None:
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)


def _combined(digests: Mapping[str, str]) -> str:
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()
