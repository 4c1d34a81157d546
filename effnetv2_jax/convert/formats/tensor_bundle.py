"""TensorFlow's checkpoints, read without TensorFlow: an index, which is a sorted table, and the tensors' bytes.

Importing TensorFlow takes 0.5 GB and many seconds, far more than the weights; and what is parsed here may come from
anyone: every length is checked, and so is every checksum. Sources: tensorflow/core/lib/io/format.cc and block.cc,
tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
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
    """Where a tensor lies: its type's number, shape, file and place in it, and its masked checksum."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    is_sliced: bool


class TensorBundle:
    """An open checkpoint; `entries` has its tensors by name.

    Raises:
      ValueError: for a damaged index.
      OSError: if a file is missing or cannot be read.
    """

    def __init__(self, prefix: Path) -> None:
        index = prefix.with_name(f"{prefix.name}.index")
        if index.stat().st_size > _MAX_INDEX:
            raise ValueError(f"{index} has {index.stat().st_size:,} bytes, which no index has")
        try:
            table = dict(_table_rows(index.read_bytes()))
            header = _message(table.pop(b""))
            self.entries = {name.decode(): _entry(value) for name, value in table.items()}
        except (ValueError, LookupError, TypeError, struct.error) as error:
            raise ValueError(f"{index} is damaged or no index of a checkpoint: {error}") from error
        if header.get(2, 0):
            raise ValueError(f"{index} is of a machine with the other order of bytes")
        shards = header.get(1, 1)
        if not 1 <= shards <= _MAX_SHARDS:
            raise ValueError(f"{index} claims {shards} parts")
        self._shards = [prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}") for shard in range(shards)]

    def read(self, name: str) -> np.ndarray:
        """Reads a tensor and verifies its checksum.

        Raises:
          ValueError: if it is damaged, or of a kind that weights are not.
        """
        entry = self.entries[name]
        if entry.dtype not in _DTYPES or entry.is_sliced:
            raise ValueError(f"{name} is of the type {entry.dtype} or in slices; weights are whole and of numbers")
        dtype = np.dtype(_DTYPES[entry.dtype])
        if entry.size != dtype.itemsize * math.prod(entry.shape):
            raise ValueError(f"{name} is damaged: {entry.size} bytes for the shape {list(entry.shape)}")
        if not 0 <= entry.shard < len(self._shards):
            raise ValueError(f"{name} is damaged: it is in part {entry.shard} of {len(self._shards)}")
        path = self._shards[entry.shard]
        if entry.offset + entry.size > path.stat().st_size:
            raise ValueError(f"{name} is damaged: its file is cut off")
        with path.open("rb") as file:
            file.seek(entry.offset)
            value = np.fromfile(file, np.uint8, entry.size)
        if masked_crc32c(value) != entry.checksum:
            raise ValueError(f"{name} is damaged: its bytes are not those that were written")
        return value.view(dtype).reshape(entry.shape)


def _table_rows(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields keys and values of a sorted table: blocks of rows, and a block that says where each of those is."""
    footer = data[-_FOOTER:]
    if len(footer) != _FOOTER or struct.unpack_from("<Q", footer, _FOOTER - 8)[0] != _MAGIC:
        raise ValueError("it has not the end of an index of a checkpoint")
    _, place = _handle(footer, 0)
    handle, _ = _handle(footer, place)
    for _, value in _block_rows(_block(data, *handle)):
        yield from _block_rows(_block(data, *_handle(value, 0)[0]))


def _handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """Reads offset and size of a block; returns them and the place after."""
    offset, place = _varint(data, place)
    size, place = _varint(data, place)
    return (offset, size), place


def _block(data: bytes, offset: int, size: int) -> bytes:
    """Returns the content of a block, whose type and checksum follow it."""
    if offset + size + 5 > len(data):
        raise ValueError("a block of the index ends beyond it")
    kind, checksum = struct.unpack_from("<BI", data, offset + size)
    if masked_crc32c(data[offset : offset + size + 1]) != checksum:
        raise ValueError("a block of the index is damaged")
    if kind:
        raise ValueError("the index is compressed, which TensorFlow's checkpoints are not")
    return data[offset : offset + size]


def _block_rows(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the rows of a block; each key leaves out what it shares with the one before."""
    end = len(block) - 4 - 4 * struct.unpack_from("<I", block, len(block) - 4)[0]
    key, place = b"", 0
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        size, place = _varint(block, place)
        if shared > len(key) or place + own + size > end:
            raise ValueError("a row of the index ends beyond its block")
        key = key[:shared] + block[place : place + own]
        place += own + size
        yield key, block[place - size : place]


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
    """Returns the fields of a protocol buffer by number; those of the number `repeated` as a list."""
    fields: dict[int, Any] = {}
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        value: Any
        if kind == 0:
            value, place = _varint(data, place)
        elif kind == 2:
            size, place = _varint(data, place)
            if place + size > len(data):
                raise ValueError("a field of the index ends beyond its row")
            value, place = data[place : place + size], place + size
        elif kind in (1, 5):
            form = "<Q" if kind == 1 else "<I"
            value, place = struct.unpack_from(form, data, place)[0], place + struct.calcsize(form)
        else:
            raise ValueError(f"a field of the index is of the unknown kind {kind}")
        if number == repeated:
            fields.setdefault(number, []).append(value)
        else:
            fields[number] = value
    return fields


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Reads a number of seven bits a byte; returns it and the place after."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number of the index has no end")
