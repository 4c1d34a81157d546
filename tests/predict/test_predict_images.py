"""Reading and preprocessing image files without TensorFlow, compared with TensorFlow."""

import io
import os
import struct

import numpy as np
import pytest
from data.pictures import many_scans
from golden import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from effnetv2_jax.data.images.families import FAMILIES
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


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def test_no_file_starts_another_program(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("Ghostscript was started"))
    (tmp_path / "a.png").write_bytes(EPS)
    with pytest.raises(ValueError, match=r"a\.png is not an image \(JPEG, PNG, GIF, WEBP, BMP, TIFF\)"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_every_format_is_read(tmp_path, kind):
    Image.new("RGB", (9, 7)).save(tmp_path / "a", kind)
    assert read_image(tmp_path / "a").shape == (7, 9, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_image_of_an_animation_is_read(tmp_path, kind):
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a", kind, save_all=True, append_images=frames[1:], lossless=True)
    assert (read_image(tmp_path / "a") == [255, 0, 0]).all()


def test_a_jpeg_of_thousands_of_scans_is_refused_before_decoding(tmp_path):
    (tmp_path / "a.jpg").write_bytes(many_scans(1000))
    with pytest.raises(ValueError, match=r"a\.jpg is a JPEG of more than 500 scans"):
        read_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(many_scans(100))
    assert read_image(tmp_path / "a.jpg").shape == (64, 64, 3)


def test_a_bitmap_whose_few_bytes_stand_for_gigabytes_is_refused(tmp_path):
    jump_over_255_rows = b"\0\2\0\xff" * 2
    header = struct.pack("<IiiHHIIiiII", 40, 80_000_000, 1, 1, 8, 1, len(jump_over_255_rows), 0, 0, 256, 0)
    start = b"BM" + struct.pack("<IHHI", 1078 + len(jump_over_255_rows), 0, 0, 1078)
    (tmp_path / "a.bmp").write_bytes(start + header + bytes(1024) + jump_over_255_rows)
    with pytest.raises(ValueError, match=r"a\.bmp is a damaged, cut short or unsupported BMP of 80000000 x 1 pixels"):
        read_image(tmp_path / "a.bmp")


def test_a_pipe_and_a_file_that_is_too_large_are_refused_before_they_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(1 << 40)
    for name, message in (("pipe", "is no regular file"), ("large", "has 1.1 TB, and the limit is 268 MB")):
        with pytest.raises(ValueError, match=message):
            read_image(tmp_path / f"{name}.jpg")
