"""The header of an image file: whether it rules out that the image can be decoded, and why it cannot."""

import io
import struct
import warnings
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from effnetv2_jax.data.images.families import MAX_IMAGE_BYTES, MAX_PIXELS

PILLOW_FORMATS = ("GIF", "WEBP", "BMP")
"""The formats that Pillow decodes. TensorFlow decodes JPEG and PNG."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_PNG_START = 24  # signature, length and name of the header chunk, width, height
_BMP_START, _BMP_RUN_LENGTHS = 34, (1, 2)  # bytes to the end of the compression's number, and the numbers of two

# Markers of JPEG. Source: ITU-T T.81, table B.1.
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_WITHOUT_CONTENT = {0x01, *range(0xD0, 0xD9)}
_NONE_IN_SIGHT = 0xFF  # 255 is no marker
_MAX_SEGMENTS = 4096  # before the first scan; a photograph has tens
_MAX_SKIPPED = 4096  # bytes between two of these segments; a sound file has none

# A progressive JPEG is decoded once for each of its scans, of which an encoder writes about ten. A scan can have as few
# as ten bytes and takes 5 ms in the largest image, so a file of 10 MB could keep a processor busy for hours. The limit
# is that of libjpeg-turbo's own tests, plus one for every 16 kB, because other bytes look like a scan by chance.
_MAX_SCANS = 500
_BYTES_OF_A_CHANCE = 1 << 14


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


def has_too_many_scans(data: bytes) -> bool:
    """Returns whether decoding an image takes too long because it is a JPEG of very many scans."""
    limit = _MAX_SCANS + len(data) // _BYTES_OF_A_CHANCE
    return data.startswith(_JPEG) and data.count(bytes([0xFF, _START_OF_SCAN])) > limit


def is_costly_bitmap(data: bytes) -> bool:
    """Returns whether data is a run-length encoded BMP of more than 65,535 columns.

    Pillow before 13 takes 255 rows of memory for a few bytes of such an image, whatever its height.
    """
    return (
        data.startswith(b"BM")
        and len(data) >= _BMP_START
        and struct.unpack_from("<I", data, 30)[0] in _BMP_RUN_LENGTHS
        and struct.unpack_from("<I", data, 18)[0] > 0xFFFF
    )


def why_not_decoded(data: bytes) -> str:
    """Returns why an image cannot be decoded, in words that follow its name, such as "is empty"."""
    if not data:
        return "is empty"
    if len(data) > MAX_IMAGE_BYTES:
        return f"has {len(data):,} bytes, and the limit is {MAX_IMAGE_BYTES:,}"
    if has_too_many_scans(data):
        return f"is a JPEG of more than {_MAX_SCANS} scans"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                kind, width, height = image.format, image.width, image.height
    except UnidentifiedImageError:
        return "is not an image"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"announces more than {MAX_PIXELS:,} pixels"
    except Exception as error:  # decoders raise all kinds of exceptions for damaged bytes
        return f"is damaged or cut short in its header: {error}"
    return f"is a damaged, cut short or unsupported {kind} of {width} x {height} pixels"


def _outside(size: tuple[int, int]) -> bool:
    width, height = size
    return not 0 < width * height <= MAX_PIXELS


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    """Returns width and height of the first frame of a JPEG; (0, 0) if the file ends before its first scan.

    Like libjpeg, it skips what lies between segments. For a header without an end in sight, it returns (1, 1), which
    rules nothing out.
    """
    size = (0, 0)
    for _ in range(_MAX_SEGMENTS):
        marker = _next_marker(file)
        if marker in (None, _END_OF_IMAGE):
            return 0, 0
        if marker == _NONE_IN_SIGHT:
            break
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
    return 1, 1


def _next_marker(file: BinaryIO) -> int | None:
    """Returns the code of the next marker; None at the end of the file; `_NONE_IN_SIGHT` if there is none nearby."""
    byte = file.read(1)
    for _ in range(_MAX_SKIPPED):
        if not byte:
            return None
        following = file.read(1)
        if byte == b"\xff" and following not in (b"", b"\0", b"\xff"):
            return following[0]  # 0 after 255 stands for the value 255, not for a marker
        byte = following
    return _NONE_IN_SIGHT
