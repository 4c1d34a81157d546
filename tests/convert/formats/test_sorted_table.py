"""Sorted tables whose checksums are right and that describe more than they are."""

import struct

import numpy as np
import pytest
from hostile import valid_files
from hostile.valid_files import block, varint

from effnetv2_jax.convert.formats import sorted_table
from effnetv2_jax.convert.formats.sorted_table import table_rows
from effnetv2_jax.masked_checksum import masked_crc32c


def table(*blocks: bytes, handles: list[bytes] | None = None) -> bytes:
    """Returns a table of blocks; `handles` are the positions of those that it claims to have."""
    content = b"".join(blocks)
    if handles is None:
        ends = np.cumsum([0, *map(len, blocks)])
        handles = [varint(int(end)) + varint(len(one) - 5) for end, one in zip(ends, blocks, strict=False)]
    positions = block([(b"%06d" % number, handle) for number, handle in enumerate(handles)])
    footer = varint(0) * 2 + varint(len(content)) + varint(len(positions) - 5)
    return content + positions + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def test_rows_are_read_from_all_blocks():
    rows = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]
    assert list(table_rows(table(block(rows[:2]), block(rows[2:])))) == rows


def test_one_block_cannot_stand_for_many():
    one = block([(b"%05d" % number, b"") for number in range(1000)])
    with pytest.raises(ValueError, match="two blocks of the index overlap"):
        list(table_rows(table(one, handles=[varint(0) + varint(len(one) - 5)] * 100_000)))


def test_a_long_name_cannot_be_shared_by_many_rows():
    name = b"a" * 1_000_000
    first = varint(0) + varint(len(name)) + varint(0) + name
    content = first + (varint(len(name)) + varint(1) + varint(0) + b"b") * 1_000_000 + struct.pack("<II", 0, 1) + b"\0"
    with pytest.raises(ValueError, match="a name in the index has more than 1,024 bytes"):
        list(table_rows(table(content + struct.pack("<I", masked_crc32c(content)))))


@pytest.mark.parametrize("names", [(b"a", b"a"), (b"b", b"a")])
def test_a_name_that_occurs_twice_is_refused(names):
    with pytest.raises(ValueError, match="the names in the index do not ascend"):
        list(table_rows(table(block([(name, b"") for name in names]))))


def test_too_many_names_are_refused(monkeypatch):
    monkeypatch.setattr(sorted_table, "_MAX_ROWS", 1)
    assert len(list(table_rows(table(block([(b"a", b"")]))))) == 1
    with pytest.raises(ValueError, match="the index has more than 1 names"):
        list(table_rows(table(block([(b"a", b""), (b"b", b"")]))))


def test_the_tables_of_the_fuzz_tests_are_read():
    assert [name for name, _ in table_rows(valid_files.index())] == [b"", b"m/head/bias", b"m/stem/conv2d/kernel"]
