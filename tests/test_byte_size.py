"""Numbers of bytes as people read them."""

import pytest

from effnetv2_jax.byte_size import byte_size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (999_700, "1 MB"),
        (5_400_000, "5.4 MB"),
        (1.7e10, "17 GB"),
        (2e12, "2 TB"),
    ],
)
def test_a_size_has_three_digits_and_a_unit(count, text):
    assert byte_size(count) == text
