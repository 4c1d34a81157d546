"""The sixteen operations: they equal the official code and do what their names say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from effnetv2_jax.analysis.benchmarks.official_input import official_operation
from effnetv2_jax.data.augment.gallery import apply_op, operation_gallery
from effnetv2_jax.data.augment.operations import OPERATION_NAMES, RANDAUGMENT_SCALES, Scales
from effnetv2_jax.data.cpu_tensorflow import tf

DETERMINISTIC = tuple(name for name in OPERATION_NAMES if name != "Cutout")
SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
TEST_IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


# --- the operations against the official code -----------------------------------------------------------------------


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_reference_image_is_reproduced_exactly(golden, name):
    reference = np.load(golden / "official_randaugment.npz")
    keys = [key for key in reference if key.startswith(f"{name}/")]
    assert len(keys) >= 5
    for key in keys:
        _, magnitude, sign, image = key.split("/")
        # "6.66667" stands for 20 / 3, the magnitude of the second stage: its stored rotation is 20.000000000000004°.
        strength = 20 / 3 if magnitude == "6.66667" else float(magnitude)
        result = apply_op(reference[f"image/{image}"], name, strength, negate=sign == "-")
        np.testing.assert_array_equal(result, reference[key], err_msg=key)


IMAGES = st.one_of(
    hnp.arrays(np.uint8, st.tuples(st.integers(3, 20), st.integers(3, 20), st.just(3))),
    st.tuples(st.integers(3, 40), st.integers(3, 40), st.integers(0, 2**32 - 1), st.integers(1, 256)).map(
        lambda drawn: np.random.default_rng(drawn[2]).integers(0, drawn[3], (*drawn[:2], 3), dtype=np.uint8)
    ),
)


@pytest.mark.parametrize("name", DETERMINISTIC)
@given(image=IMAGES, magnitude=st.floats(0, 30), negate=st.booleans())
@settings(deadline=None, max_examples=12)
def test_operations_equal_the_arithmetic_of_the_official_code_on_any_image(name, image, magnitude, negate):
    expected = official_operation(tf.constant(image), name, magnitude, -1.0 if negate else 1.0)
    np.testing.assert_array_equal(apply_op(image, name, magnitude, negate), expected)


# --- the meaning of the operations ----------------------------------------------------------------------------------


@given(magnitude=st.floats(0, 30), row=st.floats(0, 0.999), column=st.floats(0, 0.999))
@settings(deadline=None, max_examples=25)
def test_a_cutout_greys_the_square_around_its_centre_and_nothing_else(magnitude, row, column):
    result = apply_op(np.zeros((30, 50, 3), np.uint8), "Cutout", magnitude, centre=(row, column))
    half = int(magnitude / 10 * 40)
    top, left = int(np.float32(row) * np.float32(30)), int(np.float32(column) * np.float32(50))
    expected = np.zeros((30, 50, 3), np.uint8)
    expected[max(top - half, 0) : top + half, max(left - half, 0) : left + half] = 128
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("name", SIGNED)
def test_the_sign_reverses_the_movement(name):
    image = np.random.default_rng(4).integers(0, 256, (21, 21, 3), dtype=np.uint8)
    magnitude = 0.5 if name.startswith("Translate") else 5.0
    one, other = (apply_op(image, name, magnitude, negate) for negate in (False, True))
    assert not np.array_equal(one, other)
    assert (one != 128).any()
    assert (other != 128).any()


@pytest.mark.parametrize("name", sorted(set(DETERMINISTIC) - set(SIGNED)))
def test_operations_without_a_sign_ignore_it(name):
    np.testing.assert_array_equal(apply_op(TEST_IMAGE, name, 9.0, True), apply_op(TEST_IMAGE, name, 9.0, False))


def test_the_corrected_set_differs_only_where_the_official_one_is_wrong():
    image = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)

    def differing(magnitude):
        galleries = [operation_gallery(image, magnitude, operations=name) for name in ("official", "corrected")]
        return {name for name in OPERATION_NAMES if not np.array_equal(*(gallery[name] for gallery in galleries))}

    assert differing(8.0) == {"Contrast"}
    assert differing(10.0) == {"Contrast", "Solarize"}
    assert differing(25.0) == {"Contrast", "Solarize", "Posterize"}
    np.testing.assert_array_equal(apply_op(image, "Posterize", 25.0, operations="corrected"), image)
    np.testing.assert_array_equal(apply_op(image, "Solarize", 10.0, operations="corrected"), image)


def test_the_corrected_contrast_equals_pillows():
    from PIL import Image, ImageEnhance

    flat = np.full((20, 30, 3), 77, np.uint8)
    np.testing.assert_array_equal(apply_op(flat, "Contrast", 20.0, operations="corrected"), flat)
    image = np.random.default_rng(2).integers(60, 200, (64, 64, 3), dtype=np.uint8)
    pillow = ImageEnhance.Contrast(Image.fromarray(image)).enhance(10 / 10 * 1.8 + 0.1)
    result = apply_op(image, "Contrast", 10.0, operations="corrected")
    assert np.abs(np.asarray(pillow).astype(int) - result).max() <= 1  # Pillow rounds grey and the blend differently


def test_relative_scales_keep_the_share_of_the_image():
    assert RANDAUGMENT_SCALES.relative_to(224) == RANDAUGMENT_SCALES
    assert RANDAUGMENT_SCALES.relative_to(112) == Scales(50.0, 20.0)
