"""Reading and preprocessing image files without TensorFlow, compared with TensorFlow."""

import io

import numpy as np
import pytest
from golden import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from effnetv2_jax.data.families import FAMILIES
from effnetv2_jax.predict import images
from effnetv2_jax.predict.images import evaluation_image, read_image

PHOTO = reference.FOLDER / "photo.jpg"


@pytest.fixture(scope="module")
def golden():
    return np.load(reference.FOLDER / "official_preprocess.npz")


def thinned(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Returns the pixels of an image that the golden file has."""
    return image if image.shape == like.shape else image[::4, ::4]


@pytest.mark.parametrize("key", np.load(reference.FOLDER / "official_preprocess.npz").files)
def test_preprocessing_equals_the_official_code_on_the_same_pixels(golden, key):
    tf = pytest.importorskip("tensorflow")
    family, _, size = key.split("_")
    pixels = tf.io.decode_jpeg(PHOTO.read_bytes()).numpy()
    got = thinned(evaluation_image(pixels, FAMILIES[family], int(size)), golden[key])
    assert np.abs(got - golden[key]).max() <= 1e-5


@pytest.mark.parametrize("key", np.load(reference.FOLDER / "official_preprocess.npz").files)
def test_decoding_with_pillow_changes_pixels_by_about_one_grey_level(golden, key):
    family, _, size = key.split("_")
    got = thinned(evaluation_image(read_image(PHOTO), FAMILIES[family], int(size)), golden[key])
    levels = np.abs(got - golden[key]) * FAMILIES[family].std
    assert got.dtype == np.float32
    assert levels.mean() < 1.5
    assert levels.max() < 20


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.integers(1, 90),
    method=st.sampled_from(["bilinear", "bicubic"]),
)
def test_resizing_equals_tensorflow(height, width, size, method):
    tf = pytest.importorskip("tensorflow")
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.float32)
    if method == "bicubic":
        expected = tf.compat.v1.image.resize_bicubic(image[None], [size, size])[0]
    else:
        expected = tf.image.resize(image, [size, size])
    assert np.abs(images._resize(image, method, size) - expected).max() <= 1e-3


def save(path, mode, size=(9, 7), **options):
    Image.new(mode, size, 0).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("L", "a.jpg"),
        ("CMYK", "a.jpg"),
        ("RGBA", "a.png"),
        ("P", "a.png"),
        ("1", "a.png"),
        ("LA", "a.png"),
        ("RGB", "a.JPEG"),
    ],
)
def test_every_colour_mode_becomes_rgb(tmp_path, mode, name):
    image = read_image(save(tmp_path / name, mode))
    assert image.shape == (7, 9, 3)
    assert image.dtype == np.uint8


def test_a_png_with_the_name_of_a_jpeg_is_read(tmp_path):
    assert read_image(save(tmp_path / "a.JPEG", "RGB", format="PNG")).shape == (7, 9, 3)


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (1, 1)])
@pytest.mark.parametrize("family", FAMILIES)
def test_thin_images_give_finite_values(tmp_path, size, family):
    image = read_image(save(tmp_path / "a.png", "RGB", size))
    assert np.isfinite(evaluation_image(image, FAMILIES[family], 64)).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is not an image"), (b"some text", "is not an image"), (PHOTO.read_bytes()[:20000], "is damaged")],
    ids=["empty", "text", "cut"],
)
def test_broken_files_are_named(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.jpg {reason}"):
        read_image(tmp_path / "a.jpg")


def test_an_image_with_too_many_pixels_is_refused_before_decoding(tmp_path):
    header = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(header, "PNG")
    (tmp_path / "a.png").write_bytes(header.getvalue())
    with pytest.raises(ValueError, match=r"a\.png .*pixels"):
        read_image(tmp_path / "a.png")


def test_an_image_between_pillows_warning_and_its_limit_is_refused(tmp_path):
    path = save(tmp_path / "a.png", "1", (9_500, 9_500))  # 90 megapixels
    with pytest.raises(ValueError, match=r"a\.png has 9500 × 9500 pixels"):
        read_image(path)


def test_a_missing_file_and_a_folder_raise_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "a.png")
    with pytest.raises(IsADirectoryError):
        read_image(tmp_path)
