"""Reads TensorFlow's checkpoints without TensorFlow. They consist of an index, a sorted table, and of data files.

Importing TensorFlow takes 0.5 GB and many seconds, far more than reading the weights. Checkpoints may come from anyone,
so every length and every checksum is verified.

Source: tensorflow/core/lib/io/format.cc and block.cc, tensorflow/core/protobuf/tensor_bundle.proto,
tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from effnetv2_jax.convert.formats.crc32c import masked_crc32c

_MAX_INDEX = 1 << 26
_MAX_SHARDS = 1000
_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57
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
        if index.stat().st_size > _MAX_INDEX:
            raise ValueError(f"{index} has {index.stat().st_size:,} bytes; an index has at most {_MAX_INDEX:,}")
        try:
            table = dict(_table_rows(index.read_bytes()))
            header = _message(table.pop(b""))
            self.entries = {name.decode(): _entry(value) for name, value in table.items()}
        except (ValueError, LookupError, TypeError, struct.error) as error:
            raise ValueError(f"{index} is damaged or not the index of a checkpoint: {error}") from error
        if header.get(2, 0):
            raise ValueError(f"{index} was written on a machine with the other byte order")
        shards = header.get(1, 1)
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
        if entry.offset + entry.size > path.stat().st_size:
            raise ValueError(f"{name} is damaged: its file is cut off")
        with path.open("rb") as file:
            file.seek(entry.offset)
            value = np.fromfile(file, np.uint8, entry.size)
        if masked_crc32c(value) != entry.checksum:
            raise ValueError(f"{name} is damaged: its bytes do not match their checksum")
        return value.view(dtype).reshape(entry.shape)


def _table_rows(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a sorted table, which has blocks of rows and a block with their positions."""
    footer = data[-_FOOTER:]
    if len(footer) != _FOOTER or struct.unpack_from("<Q", footer, _FOOTER - 8)[0] != _MAGIC:
        raise ValueError("it does not end as the index of a checkpoint does")
    _, position = _handle(footer, 0)
    handle, _ = _handle(footer, position)
    for _, value in _block_rows(_block(data, *handle)):
        yield from _block_rows(_block(data, *_handle(value, 0)[0]))


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Reads the offset and the size of a block; returns them and the next position."""
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _block(data: bytes, offset: int, size: int) -> bytes:
    """Returns the content of a block. Its type and its checksum follow it in the file."""
    if offset + size + 5 > len(data):
        raise ValueError("a block ends beyond the end of the index")
    kind, checksum = struct.unpack_from("<BI", data, offset + size)
    if masked_crc32c(data[offset : offset + size + 1]) != checksum:
        raise ValueError("a block of the index is damaged")
    if kind:
        raise ValueError("the index is compressed, but TensorFlow does not compress checkpoints")
    return data[offset : offset + size]


def _block_rows(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the rows of a block; each key is stored without the prefix that it shares with the key before it."""
    end = len(block) - 4 - 4 * struct.unpack_from("<I", block, len(block) - 4)[0]
    key, position = b"", 0
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        size, position = _varint(block, position)
        if shared > len(key) or position + own + size > end:
            raise ValueError("a row of the index ends beyond its block")
        key = key[:shared] + block[position : position + own]
        position += own + size
        yield key, block[position - size : position]


def _entry(data: bytes) -> Entry:
    fields = _message(data)
    shape = _message(fields.get(2, b""), repeated=2).get(2, [])
    return Entry(
        dtype=fields.get(1, 0),
        shape=tuple(_message(dimension).get(1, 0) for dimension in shape),
        shard=fields.get(3, 0),
        offset=fields.get(4, 0),
        size=fields.get(5, 0),
        checksum=fields.get(6, 0),
        is_sliced=7 in fields,
    )


def _message(data: bytes, repeated: int = 0) -> dict[int, Any]:
    """Returns the fields of a protocol buffer by number; the field with the number `repeated` is a list."""
    fields: dict[int, Any] = {}
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        value: Any
        if kind == 0:
            value, position = _varint(data, position)
        elif kind == 2:
            size, position = _varint(data, position)
            if position + size > len(data):
                raise ValueError("a field of the index ends beyond its row")
            value, position = data[position : position + size], position + size
        elif kind in (1, 5):
            form = "<Q" if kind == 1 else "<I"
            value, position = struct.unpack_from(form, data, position)[0], position + struct.calcsize(form)
        else:
            raise ValueError(f"a field of the index has the unknown wire type {kind}")
        if number == repeated:
            fields.setdefault(number, []).append(value)
        else:
            fields[number] = value
    return fields


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Reads a number that is stored in seven bits of each byte; returns it and the next position."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number in the index does not end")
