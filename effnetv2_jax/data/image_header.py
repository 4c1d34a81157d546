"""The header of an image file: whether it rules out that the image can be decoded, and why it cannot."""

import io
import struct
import warnings
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from effnetv2_jax.data.families import MAX_PIXELS

PILLOW_FORMATS = ("GIF", "WEBP", "BMP")
"""The formats that Pillow decodes. TensorFlow decodes JPEG and PNG."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_PNG_START = 24  # signature, length and name of the header chunk, width, height

# Markers of JPEG. Source: ITU-T T.81, table B.1.
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_WITHOUT_CONTENT = {0x01, *range(0xD0, 0xD9)}


def ruled_out(file: BinaryIO) -> bool:
    """Returns whether the header of an image file shows that the image cannot be decoded.

    True is certain: `decode` fails too. False promises nothing, since the rest of the file may be damaged.

    Args:
      file: a file at its beginning. Only its header is read.

    Raises:
      OSError: if the file cannot be read.
    """
    start = file.read(_PNG_START)
    if start.startswith(_JPEG):
        file.seek(2)
        return _outside(_jpeg_size(file))
    if start.startswith(_PNG):
        return len(start) < _PNG_START or _outside(struct.unpack(">II", start[16:]))
    file.seek(0)
    try:
        with Image.open(file, formats=PILLOW_FORMATS) as image:
            return _outside(image.size)
    except Exception:  # decoders raise all kinds of exceptions for damaged bytes
        return True


def why_not_decoded(data: bytes) -> str:
    """Returns why an image cannot be decoded, in words that follow its name, such as "is empty"."""
    if not data:
        return "is empty"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                kind, width, height = image.format, image.width, image.height
    except UnidentifiedImageError:
        return "is not an image"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"announces more than {MAX_PIXELS:,} pixels"
    except OSError as error:
        return f"is damaged or cut short in its header: {error}"
    return f"is a damaged, cut short or unsupported {kind} of {width} x {height} pixels"


def _outside(size: tuple[int, int]) -> bool:
    width, height = size
    return not 0 < width * height <= MAX_PIXELS


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    """Returns width and height of the first frame of a JPEG; (0, 0) if the file ends before its first scan.

    Like libjpeg, it skips what lies between segments.
    """
    size = (0, 0)
    while (marker := _next_marker(file)) not in (None, _END_OF_IMAGE):
        if marker in _WITHOUT_CONTENT:
            continue
        length = int.from_bytes(file.read(2)) - 2
        if marker == _START_OF_SCAN:
            return size if len(file.read(length)) == length else (0, 0)
        if marker in _START_OF_FRAME and size == (0, 0):
            frame = file.read(length)
            size = (int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3]))
        else:
            file.seek(max(length, 0), io.SEEK_CUR)
    return 0, 0


def _next_marker(file: BinaryIO) -> int | None:
    """Returns the code of the next marker; None at the end of the file."""
    byte = file.read(1)
    while byte:
        while byte and byte != b"\xff":
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if byte and byte != b"\0":  # 0 after 255 stands for the value 255, not for a marker
            return byte[0]
    return None
