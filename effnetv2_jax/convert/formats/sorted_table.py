"""Reads LevelDB's sorted tables, in which TensorFlow stores the indices of checkpoints.

A table may come from anyone, and its checksums can be made to fit. So its size is that of what it says: blocks do not
overlap, the keys of rows ascend, and there are limits on their number and length. Without them, an index of a few
megabytes could describe rows without end.

Source: tensorflow/core/lib/io/format.cc, block.cc and table.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from effnetv2_jax.masked_checksum import masked_crc32c

_MAX_ROWS = 100_000  # XL with its averages and the slots of the optimiser has 6,000
_MAX_KEY = 1024  # the longest name of a variable of these networks has 90 bytes
_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57


def table_rows(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a table, which has blocks of rows and a block with the positions of these blocks.

    Raises:
      ValueError, LookupError or struct.error: if the table is damaged.
    """
    footer = data[-_FOOTER:]
    if len(footer) != _FOOTER or struct.unpack_from("<Q", footer, _FOOTER - 8)[0] != _MAGIC:
        raise ValueError("it does not end as the index of a checkpoint does")
    _, position = _handle(footer, 0)
    positions, _ = _handle(footer, position)
    end, count, last = 0, 0, None
    for _, value in _block_rows(_block(data, *positions)):
        (offset, size), _ = _handle(value, 0)
        if offset < end:
            raise ValueError("two blocks of the index overlap")
        end = offset + size + 5
        for key, content in _block_rows(_block(data, offset, size)):
            count += 1
            if last is not None and key <= last:
                raise ValueError("the names in the index do not ascend")
            if count > _MAX_ROWS:
                raise ValueError(f"the index has more than {_MAX_ROWS:,} names")
            yield key, content
            last = key


def varint(data: bytes, position: int) -> tuple[int, int]:
    """Reads a number that is stored in seven bits of each byte; returns it and the next position.

    Raises:
      ValueError or LookupError: if it does not end.
    """
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number in the index does not end")


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Reads the offset and the size of a block; returns them and the next position."""
    offset, position = varint(data, position)
    size, position = varint(data, position)
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
        shared, position = varint(block, position)
        own, position = varint(block, position)
        size, position = varint(block, position)
        if shared > len(key) or position + own + size > end:
            raise ValueError("a row of the index ends beyond its block")
        if shared + own > _MAX_KEY:
            raise ValueError(f"a name in the index has more than {_MAX_KEY:,} bytes")
        key = key[:shared] + block[position : position + own]
        position += own + size
        yield key, block[position - size : position]
