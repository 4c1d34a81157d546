"""The look at an image's header: what it rules out cannot be decoded."""

import io

import numpy as np
import pytest
from data.images.test_decoding import BROKEN, FORMATS, JPEG
from data.pictures import encoded, picture
from hypothesis import given, settings
from hypothesis import strategies as st

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.images.decoding import decode
from effnetv2_jax.data.images.image_header import ruled_out

ONLY_THE_BODY_IS_DAMAGED = {"JPEG cut in half", "PNG cut in half"}


def is_ruled_out(data: bytes) -> bool:
    return ruled_out(io.BytesIO(data))


def can_be_decoded(data: bytes) -> bool:
    """Returns whether TensorFlow decodes an image, without `ruled_out` for JPEGs."""
    try:
        (tf.io.decode_jpeg if data.startswith(b"\xff\xd8\xff") else decode)(data)
    except tf.errors.OpError:
        return False
    return True


@pytest.mark.parametrize("name", BROKEN)
def test_the_header_shows_all_faults_but_those_of_the_body(name):
    assert is_ruled_out(BROKEN[name]) == (name not in ONLY_THE_BODY_IS_DAMAGED)


@pytest.mark.parametrize("name", FORMATS)
def test_images_that_can_be_decoded_are_not_ruled_out(name):
    assert not is_ruled_out(FORMATS[name][0])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(60_000), "comment": b"c"}])
def test_a_jpeg_is_ruled_out_exactly_where_libjpeg_finds_no_whole_header(options):
    data = encoded(picture(0, 24, 32), quality=95, **options)
    scan = data.index(b"\xff\xda", 60_000 if "exif" in options else 0)
    for length in {*range(3, 80), *range(scan - 40, scan + 40), len(data)}:
        try:
            tf.io.extract_jpeg_shape(data[:length])
            whole = True
        except tf.errors.OpError:
            whole = False
        assert is_ruled_out(data[:length]) != whole, length


@given(
    st.sampled_from(["JPEG", "PNG", "BMP", "GIF", "WebP"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(1, 4000),
)
@settings(deadline=None, max_examples=300)
def test_what_is_ruled_out_cannot_be_decoded(name, changes, length):
    data = bytearray(JPEG if name == "JPEG" else FORMATS[name][0])
    for position, value in changes:
        if position < len(data):
            data[position] = value
    data = bytes(data[:length])
    if is_ruled_out(data):
        assert not can_be_decoded(data)


@pytest.mark.parametrize("name", ["JPEG cut in its header", "JPEG that announces 20,000 x 20,000"])
def test_the_libraries_print_nothing_about_a_broken_image(name, capfd):
    with pytest.raises(tf.errors.OpError):
        decode(BROKEN[name])
    assert capfd.readouterr().err == ""


def test_a_jpeg_with_bytes_after_its_end_is_decoded_to_the_same_pixels():
    np.testing.assert_array_equal(decode(JPEG + b"\0\0"), decode(JPEG))


@pytest.mark.parametrize(
    "body",
    [b"\xff\xe0\0\2" * 100_000, b"\xff\xe0\0\2" + bytes(10_000)],
    ids=["segments", "bytes between segments"],
)
def test_a_header_without_end_is_not_read_to_its_end(body):
    file = io.BytesIO(b"\xff\xd8" + body)
    assert not ruled_out(file)
    assert file.tell() < len(body)
