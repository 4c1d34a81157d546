"""Reads TensorFlow's checkpoints without TensorFlow. They consist of an index, a sorted table, and of data files.

Importing TensorFlow takes 0.5 GB and many seconds, far more than reading the weights. Checkpoints may come from anyone,
so every length and every checksum is verified.

Source: tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from effnetv2_jax.convert.formats.sorted_table import table_rows, varint
from effnetv2_jax.convert.formats.tensor_file import MAX_WEIGHT_BYTES
from effnetv2_jax.masked_checksum import masked_crc32c
from effnetv2_jax.regular_file import checked_size

_MAX_INDEX = 16 << 20  # XL with its averages and the slots of the optimiser takes 0.7 MB
_MAX_SHARDS = 1000
_MAX_RANK = 8  # the kernels of these networks have 4 dimensions
_MAX_DIMENSION = 1 << 40
# Source: tensorflow/core/framework/types.proto.
_DTYPES: Mapping[int, Any] = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 14: ml_dtypes.bfloat16, 19: "<f2"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor's entry in the index.

    Attributes:
      dtype: number of its type in TensorFlow's types.proto.
      shape: its shape.
      shard: number of the data file that contains it.
      offset: position of its first byte in that file.
      size: number of its bytes.
      checksum: masked CRC-32C of its bytes.
      is_sliced: whether it is stored in slices.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_sliced: bool


class TensorBundle:
    """An open checkpoint; `entries` maps the names of its tensors to their entries.

    Raises:
      ValueError: for a damaged index.
      OSError: if a file is missing or cannot be read.
    """

    def __init__(self, prefix: Path) -> None:
        index = prefix.with_name(f"{prefix.name}.index")
        checked_size(index, _MAX_INDEX)
        try:
            table = dict(table_rows(index.read_bytes()))
            header = _message(table.pop(b""))
            self.entries = {name.decode(): _entry(value) for name, value in table.items()}
            shards, byte_order = _number(header, 1, default=1), _number(header, 2)
            _check_overlaps(self.entries.values())
        except (ValueError, LookupError, struct.error) as error:
            raise ValueError(f"{index} is damaged or not the index of a checkpoint: {error}") from error
        if byte_order:
            raise ValueError(f"{index} was written on a machine with the other byte order")
        if not 1 <= shards <= _MAX_SHARDS:
            raise ValueError(f"{index} claims {shards} data files")
        self._shards = [prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}") for shard in range(shards)]

    def read(self, name: str) -> np.ndarray:
        """Reads a tensor and verifies its checksum.

        Raises:
          ValueError: if it is damaged, sliced, or not of a numeric type.
        """
        entry = self.entries[name]
        if entry.dtype not in _DTYPES or entry.is_sliced:
            raise ValueError(
                f"{name} has the TensorFlow type {entry.dtype} or is sliced; weights are whole and numeric"
            )
        dtype = np.dtype(_DTYPES[entry.dtype])
        if entry.size != dtype.itemsize * math.prod(entry.shape):
            raise ValueError(f"{name} is damaged: {entry.size} bytes for the shape {list(entry.shape)}")
        if not 0 <= entry.shard < len(self._shards):
            raise ValueError(f"{name} is damaged: it is in data file {entry.shard} of {len(self._shards)}")
        path = self._shards[entry.shard]
        if entry.offset + entry.size > checked_size(path, MAX_WEIGHT_BYTES):
            raise ValueError(f"{name} is damaged: its file is cut off")
        with path.open("rb") as file:
            file.seek(entry.offset)
            value = np.fromfile(file, np.uint8, entry.size)
        if masked_crc32c(value) != entry.checksum:
            raise ValueError(f"{name} is damaged: its bytes do not match their checksum")
        return value.view(dtype).reshape(entry.shape)


def _check_overlaps(entries: Iterable[Entry]) -> None:
    """Raises ValueError if two tensors share bytes of a data file."""
    placed = sorted((entry.shard, entry.offset, entry.offset + entry.size) for entry in entries if entry.size)
    for (shard, _, end), (other, start, _) in itertools.pairwise(placed):
        if shard == other and start < end:
            raise ValueError(f"two tensors share the bytes at {start} of data file {shard}")


def _entry(data: bytes) -> Entry:
    fields = _message(data)
    dimensions = _message(_content(fields, 2), repeated=2).get(2, [])
    if len(dimensions) > _MAX_RANK:
        raise ValueError(f"a tensor has {len(dimensions)} dimensions")
    shape = tuple(_number(_message(dimension), 1) for dimension in dimensions)
    if any(length > _MAX_DIMENSION for length in shape):
        raise ValueError(f"a tensor has the shape {list(shape)}")
    return Entry(
        dtype=_number(fields, 1),
        shape=shape,
        shard=_number(fields, 3),
        offset=_number(fields, 4),
        size=_number(fields, 5),
        checksum=_number(fields, 6),
        is_sliced=7 in fields,
    )


def _number(fields: Mapping[int, Any], field: int, default: int = 0) -> int:
    value = fields.get(field, default)
    if not isinstance(value, int):
        raise ValueError(f"field {field} of a row is no number")
    return value


def _content(fields: Mapping[int, Any], field: int) -> bytes:
    value = fields.get(field, b"")
    if not isinstance(value, bytes):
        raise ValueError(f"field {field} of a row is a number")
    return value


def _message(data: bytes, repeated: int = 0) -> dict[int, Any]:
    """Returns the fields of a protocol buffer by number; the field with the number `repeated` is a list of bytes."""
    fields: dict[int, Any] = {}
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        number, kind = tag >> 3, tag & 7
        value: Any
        if kind == 0:
            value, position = varint(data, position)
        elif kind == 2:
            size, position = varint(data, position)
            if position + size > len(data):
                raise ValueError("a field of the index ends beyond its row")
            value, position = data[position : position + size], position + size
        elif kind in (1, 5):
            form = "<Q" if kind == 1 else "<I"
            value, position = struct.unpack_from(form, data, position)[0], position + struct.calcsize(form)
        else:
            raise ValueError(f"a field of the index has the unknown wire type {kind}")
        if number == repeated:
            if kind != 2:
                raise ValueError(f"field {number} of a row is a number")
            fields.setdefault(number, []).append(value)
        else:
            fields[number] = value
    return fields
