"""The checksum of TensorFlow's files."""

import google_crc32c
import numpy as np
import pytest

from effnetv2_jax.masked_checksum import masked_crc32c


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
