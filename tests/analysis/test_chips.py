"""TPU names as people write them."""

import pytest

from effnetv2_jax.analysis.chips import CHIPS, parse_accelerator


@pytest.mark.parametrize(
    ("name", "chip", "count"),
    [("v3-32", "v3", 16), ("v4-8", "v4", 4), ("v5litepod-16", "v5e", 16), ("v5e-8", "v5e", 8), ("v5p-8", "v5p", 4),
     ("v6e-1", "v6e", 1)],
)  # fmt: skip
def test_names_mean_chips(name, chip, count):
    assert parse_accelerator(name) == (CHIPS[chip], count)


@pytest.mark.parametrize("name", ["v9-8", "v5e", "v4-1", "", "v5e-0", "tpu v4-8"])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"unknown accelerator .*known: v3, v4, v5e, v5p, v6e with a number"):
        parse_accelerator(name)
