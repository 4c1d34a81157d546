"""The preprocessing families: normalisation, and the part of an image that evaluation uses."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnetv2_jax.data.images.families import FAMILIES, preprocessing_family


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("v2", [-1.0] * 3, [127 / 128] * 3),
        ("advprop", [-1.0] * 3, [1.0] * 3),
        ("finetune", [-1.0] * 3, [1.0] * 3),
        ("legacy", [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]),
    ],
)
def test_black_and_white_are_normalised_to_the_range_of_the_family(name, black, white):
    family = preprocessing_family(name)
    np.testing.assert_allclose((0 - np.array(family.mean)) / family.std, black, rtol=1e-12)
    np.testing.assert_allclose((255 - np.array(family.mean)) / family.std, white, rtol=1e-12)


def test_only_the_v2_family_depends_on_the_evaluation_size():
    crops = {
        name: [family.crops_in_evaluation(size) for size in (224, 319, 320, 480)] for name, family in FAMILIES.items()
    }
    assert crops == {
        "v2": [True, True, False, False],
        "legacy": [True] * 4,
        "advprop": [True] * 4,
        "finetune": [False] * 4,
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("eval_crop", "crops"), [("centre", True), ("whole", False)])
def test_a_configuration_can_override_the_familys_rule(family, eval_crop, crops):
    assert {FAMILIES[family].crops_in_evaluation(size, eval_crop) for size in (32, 384)} == {crops}


@given(height=st.integers(1, 2000), width=st.integers(1, 2000), image_size=st.integers(1, 1024))
def test_the_central_square_is_central_and_the_same_in_numpy_and_tensorflow(height, width, image_size):
    from effnetv2_jax.data.cpu_tensorflow import tf

    for family in FAMILIES.values():
        top, left, side = (
            int(value) for value in family.central_square(np.float32(height), np.float32(width), image_size, np)
        )
        assert 1 <= side <= min(height, width)
        assert abs(side - family.central_share(image_size) * min(height, width)) <= 1
        for first, length in ((top, height), (left, width)):
            before, after = first, length - side - first
            assert before - after in ((0, -1), (0, 1))[family.eval_crop_rounding]
        in_tensorflow = family.central_square(
            tf.constant(height, tf.float32), tf.constant(width, tf.float32), image_size, tf
        )
        assert [int(value) for value in in_tensorflow] == [top, left, side]


def test_the_central_square_of_imagenets_size_is_seven_eighths():
    assert FAMILIES["v2"].central_square(np.float32(375), np.float32(500), 224, np) == (23, 86, 328)
    assert FAMILIES["legacy"].central_square(np.float32(375), np.float32(500), 224, np) == (24, 86, 328)


def test_an_unknown_family_is_refused_with_the_allowed_names():
    with pytest.raises(ValueError, match="'v3'; allowed: v2, legacy, advprop, finetune"):
        preprocessing_family("v3")


def test_modules_for_the_training_step_import_no_tensorflow():
    names = ("images.families", "config", "host_rows", "sources.datasets")
    modules = ", ".join(f"effnetv2_jax.data.{name}" for name in names)
    code = f"import sys, {modules}; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
