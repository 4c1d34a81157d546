"""Crops, resizing, flips and noise equal the official code in evaluation, and keep to its ranges in training."""

import functools

import numpy as np
import pytest
from data.pictures import encoded, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.images import preprocess
from effnetv2_jax.data.images.decoding import decode
from effnetv2_jax.data.images.families import FAMILIES


def seeds(count: int) -> list[tf.Tensor]:
    return [tf.constant([17, index], tf.int64) for index in range(count)]


@functools.cache
def crop_function(family: str, size: int = 224, **options: float):
    """Returns the function `(data, seed) → crop`, which is traced once."""
    crop = functools.partial(preprocess.training_crop, family=FAMILIES[family], image_size=size, **options)
    return tf.function(
        crop, input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int64)], autograph=False
    )


# --- evaluation against the official code ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "size"),
    [("v2", 64), ("v2", 224), ("v2", 320), ("legacy", 64), ("legacy", 224), ("finetune", 64), ("finetune", 224)],
)
def test_evaluation_equals_the_official_code(golden, photo, family, size):
    row = FAMILIES[family]
    decoded = decode(photo)
    image = preprocess.evaluation_image(decoded, family=row, image_size=size, crop=row.crops_in_evaluation(size))
    stride = 4 if size >= 224 else 1  # the reference keeps every fourth pixel of the larger ones
    expected = np.load(golden / "official_preprocess.npz")[f"{family}_eval_{size}"]
    pixels = expected.astype(np.float64) * row.std + row.mean
    np.testing.assert_allclose(image.numpy()[::stride, ::stride], pixels, atol=1e-3)  # of 255
    # The pipeline sends uint8 to the device. Rounding costs half a level, and bicubic overshoot is lost.
    transferred = preprocess.rounded(image).numpy()[::stride, ::stride]
    assert np.abs(transferred - np.clip(pixels, 0, 255)).max() <= 0.501


@given(st.integers(1, 700), st.integers(1, 700), st.integers(8, 600), st.sampled_from(sorted(FAMILIES)))
@settings(deadline=None, max_examples=40)
def test_the_evaluation_crop_lies_inside_any_image(height, width, size, name):
    image = tf.zeros([height, width, 3], tf.uint8)
    result = preprocess.evaluation_image(image, family=FAMILIES[name], image_size=size, crop=True)
    assert result.shape == (size, size, 3)


# --- training -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ruler() -> bytes:
    """An image as large as the photo, in which each pixel encodes its position."""
    rows, columns = np.mgrid[:375, :500]
    position = np.stack([rows // 2, columns // 2, rows % 2 + 2 * (columns % 2)], -1).astype(np.uint8)
    return encoded(Image.fromarray(position), "PNG", compress_level=1)


def crop_window(ruler: bytes, seed: tf.Tensor, family: str) -> tuple[int, int, int, int]:
    """Returns top, left, height and width of a crop."""
    crop = crop_function(family)(ruler, seed).numpy().astype(int)
    top, left = 2 * crop[0, 0, 0] + crop[0, 0, 2] % 2, 2 * crop[0, 0, 1] + crop[0, 0, 2] // 2
    return top, left, crop.shape[0], crop.shape[1]


@pytest.mark.parametrize("family", ["v2", "legacy"])
def test_decoding_only_the_crop_gives_the_pixels_of_the_whole_image(photo, ruler, family):
    whole = decode(photo).numpy()
    for seed in seeds(40):
        top, left, height, width = crop_window(ruler, seed, family)
        expected = whole[top : top + height, left : left + width]
        np.testing.assert_array_equal(crop_function(family)(photo, seed), expected)


@pytest.mark.parametrize(("family", "least", "aspects"), [("v2", 0.05, (0.75, 1.33)), ("legacy", 0.1, (3 / 4, 4 / 3))])
def test_crops_stay_within_the_area_and_aspect_of_the_family(ruler, family, least, aspects):
    areas = []
    for seed in seeds(150):
        _, _, height, width = crop_window(ruler, seed, family)
        areas.append(height * width / (375 * 500))
        # The sides of the drawn rectangle are rounded to whole pixels.
        assert aspects[0] * (width - 1) / width <= width / height <= aspects[1] * (height + 1) / height
    assert least * 0.98 <= min(areas) < 0.2
    assert 0.8 < max(areas) <= 1.0


@pytest.mark.parametrize("family", ["v2", "finetune"])
def test_the_least_crop_area_can_be_configured(photo, family):
    crops = [crop_function(family, min_crop_area=0.7)(photo, seed) for seed in seeds(40)]
    areas = [crop.shape[0] * crop.shape[1] / (375 * 500) for crop in crops]
    assert 0.69 < min(areas) < 0.85


def test_the_finetune_family_takes_the_whole_image(photo):
    np.testing.assert_array_equal(crop_function("finetune")(photo, seeds(1)[0]), decode(photo))


def test_a_legacy_crop_of_the_whole_image_becomes_the_central_square():
    tiny = encoded(picture(3, 2, 2), "PNG")  # a crop of 2 x 2 pixels is one pixel or the whole image
    assert {crop_function("legacy")(tiny, seed).shape[0] for seed in seeds(30)} == {1}  # int(224 / 256 · 2) = 1


def test_half_of_the_images_are_mirrored():
    image = tf.constant(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    flip = tf.function(preprocess.flipped, autograph=False)
    results = [flip(image, seed).numpy() for seed in seeds(400)]
    mirrored = [np.array_equal(result, image.numpy()[:, ::-1]) for result in results]
    assert 160 < sum(mirrored) < 240
    assert all(done or np.array_equal(result, image) for done, result in zip(mirrored, results, strict=True))


@pytest.mark.parametrize("size", [40, 100, 400])
def test_scaled_decoding_keeps_enough_pixels_and_the_content(size):
    rows, columns = np.mgrid[:375, :500]
    slope = encoded(Image.fromarray(np.stack([rows / 2, columns / 2, rows / 2], -1).astype(np.uint8)), quality=95)
    smaller = 0
    for seed in seeds(20):
        full, scaled = (crop_function("v2", size, scaled=option)(slope, seed) for option in (False, True))
        ratio = min(full.shape[0] // scaled.shape[0], full.shape[1] // scaled.shape[1])
        assert ratio in (1, 2, 4, 8)
        if ratio > 1:
            smaller += 1
            assert min(scaled.shape[:2]) >= size
            shrunk = tf.image.resize(full, scaled.shape[:2], method="area")
            assert np.abs(shrunk.numpy() - scaled.numpy()).max() < 8  # up to 7 pixels off the grid, half a level each
        else:
            np.testing.assert_array_equal(full, scaled)
    assert (smaller > 0) == (size < 188)  # the shorter side is 375


def test_the_noise_covers_a_square_of_half_the_side_around_any_centre():
    image = tf.zeros([32, 32, 3], tf.uint8)
    cover = tf.function(preprocess.noise_cutout, autograph=False)
    covered = []
    for seed in seeds(60):
        noisy = cover(image, seed).numpy()
        mask = (noisy > 0).any(-1)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert len(rows) <= 16 >= len(columns)
        assert noisy[mask].min() >= 128
        covered.append(mask.sum())
    assert max(covered) == 256
    assert min(covered) < 180  # near a corner
