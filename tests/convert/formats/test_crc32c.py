"""The checksum equals the values of the standard, and lanes equal a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnetv2_jax.convert.formats import crc32c as module
from effnetv2_jax.convert.formats.crc32c import crc32c, masked_crc32c


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
def test_checksums_equal_those_of_the_standard(monkeypatch, data, expected):
    assert crc32c(data) == expected
    monkeypatch.setattr(module, "_SHORT", 4)
    assert crc32c(data) == expected


@given(st.integers(0, 70_000), st.integers(0, 5))
def test_lanes_and_the_plain_loop_agree(size, seed):
    data = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    short, module._SHORT = module._SHORT, 4
    try:
        assert crc32c(data) == module._one_by_one(data)
    finally:
        module._SHORT = short


def test_arrays_and_bytes_have_the_same_checksum():
    array = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    assert crc32c(array) == crc32c(array.tobytes())


def test_masked_checksums_equal_those_of_tensorflow():
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
