import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from effnetv2_jax.analysis.benchmarks.official_input import official_operation
from effnetv2_jax.data.augment.operations import RANDAUGMENT_SCALES, Draws, Scales
from effnetv2_jax.data.augment.randaugment import (
    OPERATION_NAMES,
    apply_op,
    operation_gallery,
    operations_in_turn,
    randaugment,
)
from effnetv2_jax.data.config import DataConfig
from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.transform import operation_scales

DETERMINISTIC = tuple(name for name in OPERATION_NAMES if name != "Cutout")
SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
POINTWISE = ("Invert", "Posterize", "Solarize", "SolarizeAdd", "Brightness", "Contrast")
TEST_IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def seed(index: int) -> tf.Tensor:
    return tf.constant([3, index], tf.int64)


# --- the operations against the official code -----------------------------------------------------------------------


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_reference_image_is_reproduced_exactly(golden, name):
    reference = np.load(golden / "official_randaugment.npz")
    keys = [key for key in reference if key.startswith(f"{name}/")]
    assert len(keys) >= 5
    for key in keys:
        _, magnitude, sign, image = key.split("/")
        # "6.66667" stands for 20 / 3, the second stage's magnitude: the arguments file says 20.000000000000004 degrees.
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
def test_any_image_comes_out_as_from_float_arithmetic_over_the_whole_image(name, image, magnitude, negate):
    expected = official_operation(tf.constant(image), name, magnitude, -1.0 if negate else 1.0)
    np.testing.assert_array_equal(apply_op(image, name, magnitude, negate), expected)


@pytest.mark.parametrize("magnitude", [0.7, 7.3, 10.0, 25.0])
def test_compiled_operations_give_the_bits_of_uncompiled_ones(magnitude):
    image = tf.constant(np.random.default_rng(5).integers(0, 256, (75, 56, 3), dtype=np.uint8))
    compiled = operations_in_turn(tuple((name, magnitude) for name in OPERATION_NAMES), "official", RANDAUGMENT_SCALES)
    for index, name in enumerate(OPERATION_NAMES):
        for negate in (False, True):
            draws = Draws(tf.constant([negate]), tf.constant([[0.3, 0.8]]))
            expected = apply_op(image, name, magnitude, negate, centre=(0.3, 0.8))
            np.testing.assert_array_equal(compiled(image, tf.constant([index]), draws), expected, err_msg=name)


def test_operations_follow_each_other_in_turn():
    compiled = operations_in_turn(
        (("Invert", 0.0), ("TranslateX", 1.0), ("Color", 5.0)), "official", RANDAUGMENT_SCALES
    )
    draws = Draws(tf.constant([False, True, False, False]), tf.zeros([4, 2]))
    inverted = apply_op(TEST_IMAGE, "Invert", 0.0)
    expected = apply_op(apply_op(inverted, "TranslateX", 1.0, negate=True), "Color", 5.0)
    np.testing.assert_array_equal(compiled(tf.constant(TEST_IMAGE), tf.constant([0, 1, 3, 2]), draws), expected)


def test_pixels_of_a_size_relative_augmentation_are_shares_of_the_image():
    absolute, relative = (
        operation_scales(DataConfig(augmentation="randaugment", size_relative=choice), 56) for choice in (False, True)
    )
    assert absolute == RANDAUGMENT_SCALES
    assert relative == Scales(translate=25.0, cutout=10.0)
    moved = [operation_gallery(TEST_IMAGE, 1.0, scales=scales)["TranslateX"] for scales in (absolute, relative)]
    np.testing.assert_array_equal(moved[1][:, :-3], TEST_IMAGE[:, 3:])
    np.testing.assert_array_equal(moved[0][:, :-10], TEST_IMAGE[:, 10:])


# --- what each operation means --------------------------------------------------------------------------------------


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
def test_the_sign_mirrors_the_movement(name):
    image = np.random.default_rng(4).integers(0, 256, (21, 21, 3), dtype=np.uint8)
    magnitude = 0.5 if name.startswith("Translate") else 5.0
    one, other = (apply_op(image, name, magnitude, negate) for negate in (False, True))
    assert not np.array_equal(one, other)
    assert (one != 128).any()
    assert (other != 128).any()


@pytest.mark.parametrize("name", sorted(set(DETERMINISTIC) - set(SIGNED)))
def test_operations_without_a_sign_ignore_it(name):
    np.testing.assert_array_equal(apply_op(TEST_IMAGE, name, 9.0, True), apply_op(TEST_IMAGE, name, 9.0, False))


def test_the_corrected_set_differs_where_the_official_one_goes_wrong_and_nowhere_else():
    image = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)

    def differing(magnitude):
        galleries = [operation_gallery(image, magnitude, operations=name) for name in ("official", "corrected")]
        return {name for name in OPERATION_NAMES if not np.array_equal(*(gallery[name] for gallery in galleries))}

    assert differing(8.0) == {"Contrast"}
    assert differing(10.0) == {"Contrast", "Solarize"}
    assert differing(25.0) == {"Contrast", "Solarize", "Posterize"}
    np.testing.assert_array_equal(apply_op(image, "Posterize", 25.0, operations="corrected"), image)
    np.testing.assert_array_equal(apply_op(image, "Solarize", 10.0, operations="corrected"), image)


def test_the_corrected_contrast_is_pillows():
    from PIL import Image, ImageEnhance

    flat = np.full((20, 30, 3), 77, np.uint8)
    np.testing.assert_array_equal(apply_op(flat, "Contrast", 20.0, operations="corrected"), flat)
    image = np.random.default_rng(2).integers(60, 200, (64, 64, 3), dtype=np.uint8)
    pillow = ImageEnhance.Contrast(Image.fromarray(image)).enhance(10 / 10 * 1.8 + 0.1)
    ours = apply_op(image, "Contrast", 10.0, operations="corrected")
    assert np.abs(np.asarray(pillow).astype(int) - ours).max() <= 1  # Pillow rounds its grey and its blend otherwise


def test_relative_scales_keep_the_share_of_the_image():
    assert RANDAUGMENT_SCALES.relative_to(224) == RANDAUGMENT_SCALES
    assert RANDAUGMENT_SCALES.relative_to(112) == Scales(50.0, 20.0)


# --- drawing --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def augment():
    function = randaugment(10.0, scales=Scales(8.0, 6.0))
    return tf.function(lambda image, seed: function(image, seed), autograph=False)


def test_the_same_seed_gives_the_same_image_and_another_seed_mostly_another(augment):
    images = [augment(TEST_IMAGE, seed(index)).numpy() for index in range(30)]
    again = [augment(TEST_IMAGE, seed(index)).numpy() for index in range(30)]
    np.testing.assert_array_equal(images, again)
    assert len({image.tobytes() for image in images}) > 25


def test_every_operation_gets_its_turn():
    one_layer = randaugment(0.9, layers=1)  # translations of 9 pixels
    augment = tf.function(lambda seed: one_layer(tf.constant(TEST_IMAGE), seed), autograph=False)
    results = [augment(seed(index)).numpy().tobytes() for index in range(640)]
    known = {
        apply_op(TEST_IMAGE, name, 0.9, negate).tobytes(): name for name in DETERMINISTIC for negate in (False, True)
    }
    found = collections.Counter(known.get(result, "Cutout") for result in results)
    assert set(found) == set(OPERATION_NAMES)
    assert max(abs(count - 40) for count in found.values()) < 31  # of 40 expected: five standard deviations


def test_the_layers_follow_each_other(augment):
    once = randaugment(10.0, layers=1, scales=Scales(8.0, 6.0))
    single = {once(tf.constant(TEST_IMAGE), seed(index)).numpy().tobytes() for index in range(40)}
    double = [augment(TEST_IMAGE, seed(index)).numpy().tobytes() for index in range(40)]
    assert sum(image in single for image in double) < 20  # but for pairs such as a twofold Invert


def test_no_layers_leave_the_image_alone():
    np.testing.assert_array_equal(randaugment(10.0, layers=0)(tf.constant(TEST_IMAGE), seed(0)), TEST_IMAGE)


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TEST_IMAGE, "Sharpen", 1.0), "unknown operation 'Sharpen'; allowed: AutoContrast, "),
        ((TEST_IMAGE, "Invert", -1.0), "magnitude -1.0"),
        ((TEST_IMAGE, "Invert", float("nan")), "magnitude nan"),
        ((TEST_IMAGE.astype(np.float32), "Invert", 1.0), "uint8"),
        ((TEST_IMAGE[..., :1], "Invert", 1.0), r"\[H, W, 3\]"),
        ((TEST_IMAGE[None], "Invert", 1.0), r"\[H, W, 3\]"),
    ],
)
def test_what_no_operation_can_do_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        apply_op(*arguments)


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match="unknown operations 'better'; allowed: official, corrected"):
        apply_op(TEST_IMAGE, "Invert", 1.0, operations="better")


def test_a_tensor_gives_a_tensor_and_an_array_an_array():
    assert isinstance(apply_op(TEST_IMAGE, "Invert", 1.0), np.ndarray)
    assert isinstance(apply_op(tf.constant(TEST_IMAGE), "Invert", 1.0), tf.Tensor)


def test_the_gallery_shows_every_operation():
    gallery = operation_gallery(TEST_IMAGE, 10.0)
    assert tuple(gallery) == OPERATION_NAMES
    np.testing.assert_array_equal(gallery["Invert"], 255 - TEST_IMAGE)
