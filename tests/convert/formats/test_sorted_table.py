"""Sorted tables: their checksum, and tables with right checksums that describe more than they are."""

import struct

import google_crc32c
import numpy as np
import pytest
from hostile import valid_files
from hostile.valid_files import block, varint

from effnetv2_jax.convert.formats import sorted_table
from effnetv2_jax.convert.formats.sorted_table import masked_crc32c, table_rows


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0x00000000),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # this and the next three: RFC 3720, appendix B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_are_those_of_the_standard_masked_as_in_tensorflow(data, expected):
    assert masked_crc32c(data) == ((expected >> 15 | expected << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc32c(np.frombuffer(data, np.uint8)) == masked_crc32c(data)


def test_the_checksum_is_computed_in_c():
    assert google_crc32c.implementation == "c"


def test_arrays_and_bytes_have_the_same_checksum():
    array = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    assert masked_crc32c(array) == masked_crc32c(array.tobytes())


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
