"""Layouts: there and back, and each axis where the framework has it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnetv2_jax.convert.layouts import LAYOUTS

KINDS = {"conv": 4, "depthwise": 4, "squeeze": 4, "dense": 2, "vector": 1}


@given(
    convention=st.sampled_from(sorted(LAYOUTS)),
    kind=st.sampled_from(sorted(KINDS)),
    sizes=st.lists(st.integers(1, 5), min_size=4, max_size=4),
)
def test_there_and_back_is_the_same(convention, kind, sizes):
    shape = tuple(sizes[: KINDS[kind]])
    if kind == "squeeze":
        shape = (1, 1, *shape[2:])
    ours = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layout = LAYOUTS[convention][kind]
    foreign = layout.foreign(ours)
    assert foreign.shape == layout.shape(shape)
    back = layout.ours(foreign)
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, ours)


def test_torch_convolution_is_output_input_height_width():
    ours = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6)  # H W I O
    assert LAYOUTS["timm"]["conv"].foreign(ours)[5, 4, 2, 3] == ours[2, 3, 4, 5]


def test_depthwise_is_channels_then_one():
    ours = np.arange(3 * 3 * 1 * 6).reshape(3, 3, 1, 6)
    assert LAYOUTS["official"]["depthwise"].foreign(ours).shape == (3, 3, 6, 1)
    assert LAYOUTS["torchvision"]["depthwise"].foreign(ours)[4, 0, 1, 2] == ours[1, 2, 0, 4]


@pytest.mark.parametrize(
    ("convention", "shape"), [("timm", (6, 5, 1, 1)), ("article", (6, 5)), ("official", (1, 1, 5, 6))]
)
def test_squeeze_is_a_convolution_or_a_linear_layer(convention, shape):
    assert LAYOUTS[convention]["squeeze"].foreign(np.zeros((1, 1, 5, 6))).shape == shape
