"""Layouts: a round trip changes nothing, and each axis is where the framework has it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnetv2_jax.convert.frameworks.table import FRAMEWORKS

AXES = {"conv": 4, "depthwise": 4, "squeeze": 4, "dense": 2, "vector": 1}


@given(
    framework=st.sampled_from(sorted(FRAMEWORKS)),
    kind=st.sampled_from(sorted(AXES)),
    sizes=st.lists(st.integers(1, 5), min_size=4, max_size=4),
)
def test_a_round_trip_changes_nothing(framework, kind, sizes):
    shape = tuple(sizes[: AXES[kind]])
    if kind == "squeeze":
        shape = (1, 1, *shape[2:])
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layout = FRAMEWORKS[framework].layouts[kind]
    converted = layout.from_flax(array)
    assert converted.shape == layout.shape(shape)
    back = layout.to_flax(converted)
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, array)


def test_pytorch_convolutions_are_ordered_output_input_height_width():
    array = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6)  # H W I O
    assert FRAMEWORKS["timm"].layouts["conv"].from_flax(array)[5, 4, 2, 3] == array[2, 3, 4, 5]


def test_depthwise_kernels_are_ordered_channels_then_one():
    array = np.arange(3 * 3 * 1 * 6).reshape(3, 3, 1, 6)
    assert FRAMEWORKS["official"].layouts["depthwise"].from_flax(array).shape == (3, 3, 6, 1)
    assert FRAMEWORKS["torchvision"].layouts["depthwise"].from_flax(array)[4, 0, 1, 2] == array[1, 2, 0, 4]


@pytest.mark.parametrize(
    ("framework", "shape"), [("timm", (6, 5, 1, 1)), ("article", (6, 5)), ("official", (1, 1, 5, 6))]
)
def test_squeeze_is_a_convolution_or_a_linear_layer(framework, shape):
    assert FRAMEWORKS[framework].layouts["squeeze"].from_flax(np.zeros((1, 1, 5, 6))).shape == shape
