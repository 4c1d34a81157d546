"""Small images that tests write to disk."""

import io
import struct

import numpy as np
from PIL import Image


def picture(seed: int, height: int = 24, width: int = 32) -> Image.Image:
    """Returns a smooth image, another one for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Returns the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def many_scans(count: int, side: int = 64) -> bytes:
    """Returns a progressive JPEG of empty scans, ten bytes each, as no encoder writes it."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    code = bytes([1, *[0] * 15, 0])
    start = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    tables = segment(0xC4, b"\0" + code) + segment(0xC4, b"\x10" + code)
    scans = segment(0xDA, b"\1\1\0\0\0\0") + segment(0xDA, b"\1\1\0\1\x3f\0") * (count - 1)
    return b"\xff\xd8" + start + tables + scans + b"\xff\xd9"
