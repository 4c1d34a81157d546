"""Decoding of every format, of damaged files, and of parts of an image."""

import io
import resource
import struct
import zlib

import numpy as np
import pytest
from data.pictures import encoded, many_scans, picture
from PIL import Image

from effnetv2_jax.data.cpu_tensorflow import tf
from effnetv2_jax.data.images import decoding, preprocess
from effnetv2_jax.data.images.decoding import decode
from effnetv2_jax.data.images.families import FAMILIES


def png_of_16_bits(grey: np.ndarray) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 16, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RGB = picture(0)
GREY = RGB.convert("L")
PALETTE = RGB.quantize(64)
FORMATS = {
    "PNG": (encoded(RGB, "PNG"), RGB),
    "palette PNG": (encoded(PALETTE, "PNG"), PALETTE.convert("RGB")),
    "palette PNG with a transparent colour": (encoded(PALETTE, "PNG", transparency=3), PALETTE.convert("RGB")),
    "PNG with alpha": (encoded(RGB.convert("RGBA"), "PNG"), RGB),
    "grey PNG": (encoded(GREY, "PNG"), GREY.convert("RGB")),
    "1-bit PNG": (encoded(GREY.convert("1"), "PNG"), GREY.convert("1").convert("RGB")),
    "16-bit PNG": (png_of_16_bits(np.asarray(GREY).astype(np.uint16) * 257), GREY.convert("RGB")),
    "BMP": (encoded(RGB, "BMP"), RGB),
    "palette BMP": (encoded(PALETTE, "BMP"), PALETTE.convert("RGB")),
    "WebP": (encoded(RGB, "WEBP", lossless=True), RGB),
    "GIF": (encoded(PALETTE, "GIF"), PALETTE.convert("RGB")),
    "animated GIF": (
        encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]),
        PALETTE.convert("RGB"),
    ),
    "animated WebP": (encoded(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(180)], lossless=True), RGB),
    "1 x N PNG": (encoded(RGB.crop((0, 0, 32, 1)), "PNG"), RGB.crop((0, 0, 32, 1))),
    "N x 1 PNG": (encoded(RGB.crop((0, 0, 1, 24)), "PNG"), RGB.crop((0, 0, 1, 24))),
}


@pytest.mark.parametrize("name", FORMATS)
def test_lossless_files_are_decoded_exactly(name):
    data, expected = FORMATS[name]
    np.testing.assert_array_equal(decode(data), np.asarray(expected))


@pytest.mark.parametrize(("mode", "options"), [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})])
def test_jpegs_of_every_colour_space_are_decoded_to_within_their_loss(mode, options):
    data = encoded(RGB.convert(mode), "JPEG", quality=98, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int32)
    difference = np.abs(decode(data).numpy() - expected)
    assert difference.mean() < 4  # TensorFlow uses the fast inverse DCT, Pillow the accurate one
    assert difference.max() < 24


@pytest.mark.parametrize("name", ["1 x N PNG", "N x 1 PNG", "palette PNG", "animated GIF"])
@pytest.mark.parametrize("family", FAMILIES)
def test_unusual_images_can_be_trained_on(name, family):
    crop = preprocess.training_crop(
        FORMATS[name][0], tf.constant([17, 0], tf.int64), family=FAMILIES[family], image_size=32
    )
    assert preprocess.resize(crop, 32, FAMILIES[family]).shape == (32, 32, 3)


JPEG = encoded(picture(0, 120, 160), quality=95)


def announcing_20000(kind: str) -> bytes:
    if kind == "JPEG":
        frame = JPEG.index(b"\xff\xc0")
        return JPEG[: frame + 5] + struct.pack(">HH", 20000, 20000) + JPEG[frame + 9 :]
    data = bytearray(encoded(PALETTE, kind))
    if kind == "PNG":
        data[16:24] = struct.pack(">II", 20000, 20000)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", 20000, 20000)
    else:
        data[18:26] = struct.pack("<ii", 20000, 20000)
    return bytes(data)


BROKEN = {
    "empty": b"",
    "text": b"this is not an image\n" * 20,
    "zeros": bytes(1000),
    "JPEG cut in half": JPEG[: len(JPEG) // 2],
    "JPEG cut in its header": JPEG[:100],
    "PNG cut in half": FORMATS["PNG"][0][: len(FORMATS["PNG"][0]) // 2],
    "PNG cut in its header": FORMATS["PNG"][0][:18],
    "PNG cut after its signature": FORMATS["PNG"][0][:8],
    "WebP cut in half": FORMATS["WebP"][0][: len(FORMATS["WebP"][0]) // 2],
    "GIF cut in its header": FORMATS["GIF"][0][:12],
    "TIFF": encoded(RGB, "TIFF"),
    **{f"{kind} that announces 20,000 x 20,000": announcing_20000(kind) for kind in ("JPEG", "PNG", "GIF", "BMP")},
}


@pytest.mark.parametrize("name", BROKEN)
def test_bytes_that_are_not_a_whole_image_are_an_error(name):
    with pytest.raises(tf.errors.OpError):
        decode(BROKEN[name])


def test_an_image_that_announces_too_many_pixels_takes_no_memory():
    rows = zlib.compressobj()
    pixels = b"".join(rows.compress(bytes(12_001)) for _ in range(12_000)) + rows.flush()
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0)), (b"IDAT", pixels)):
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(tf.errors.OpError, match="too many pixels"):
        decode(data)
    decoded_kilobytes = 3 * 12_000**2 / 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < decoded_kilobytes / 4


def test_a_jpeg_of_thousands_of_scans_is_refused_before_decoding():
    with pytest.raises(tf.errors.OpError, match="too many scans"):
        decode(many_scans(20_000, side=9000))
    assert decode(many_scans(100)).shape == (64, 64, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_a_file_of_too_many_bytes_is_refused(monkeypatch, kind):
    monkeypatch.setattr(decoding, "MAX_IMAGE_BYTES", 100)
    with pytest.raises(tf.errors.OpError, match="too many bytes"):
        decode.python_function(tf.constant(encoded(picture(0), kind)))
