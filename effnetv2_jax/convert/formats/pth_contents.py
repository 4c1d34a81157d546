"""What a `.pth` file contains, checked before PyTorch reads it.

PyTorch's weights-only reader runs no code of a file. But a few bytes can make it fill the memory: a compressed record
of zeros, or a function that it allows, such as `bytearray(10**12)`. Older versions also trust the sizes that the file
claims, and no version compares the checksums of the archive.
"""

from __future__ import annotations

import io
import mmap
import pickletools
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

from effnetv2_jax.convert.formats.tensor_file import MAX_WEIGHT_BYTES
from effnetv2_jax.regular_file import checked_size

_ZIP = b"PK\x03\x04"
_MAX_READ = 4 << 20  # bytes of the list of records; that of 5,000 tensors has 0.5 MB
_MAX_PICKLE = 16 << 20  # bytes of the objects without their tensors; those of 5,000 tensors have 1.5 MB
_LEGACY_PICKLES = 5  # format's number, version, machine, objects and keys. Source: torch/serialization.py, _legacy_save

# What the objects of a training script consist of: tensors, parameters, their types and sizes, and dictionaries.
_KNOWN = re.compile(
    r"collections (OrderedDict|Counter)|builtins set|__builtin__ set|torch ([a-z]\w*|\w+Storage|Size)"
    r"|torch\.storage (Untyped|Typed)Storage|torch\.nn\.parameter Parameter|torch\.serialization _get_layout"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|parameter|parameter_with_state)|torch\._tensor _rebuild_from_type_v2"
)


def check_pth(path: Path) -> bool:
    """Checks a file, and returns whether it is a zip archive, as PyTorch 1.6 and later write.

    Raises:
      ValueError: if it is damaged, too large, or contains more than tensors and plain objects.
      OSError: if it does not exist or cannot be read.
    """
    checked_size(path, MAX_WEIGHT_BYTES)
    with path.open("rb") as file:
        is_archive = file.read(len(_ZIP)) == _ZIP
    try:
        _check_archive(path) if is_archive else _check_legacy(path)
    except _RefusedError:
        raise
    except Exception as error:  # zipfile and pickletools fail on damaged files in many ways
        raise ValueError(str(error) or type(error).__name__) from error
    return is_archive


class _RefusedError(ValueError):
    """An intact file that is not accepted."""


class _Limited(io.FileIO):
    """A file that is read in limited pieces, so that a list of records of any length is not."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(_MAX_READ if size is None or size < 0 else min(size, _MAX_READ))


def _check_archive(path: Path) -> None:
    with _Limited(path) as file, zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        names = {record.filename.lower() for record in records}  # PyTorch's reader ignores case
        if len(names) < len(records):
            raise _RefusedError("it has two records of the same name")
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise _RefusedError("it has compressed records, which PyTorch does not write")
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise _RefusedError("its records claim more bytes than it has")
        objects = [record for record in records if record.filename.lower().endswith("/data.pkl")]
        if len(objects) != 1 or objects[0].file_size > _MAX_PICKLE:
            raise _RefusedError(f"it needs one record data.pkl of at most {_MAX_PICKLE:,} bytes")
        if broken := archive.testzip():
            raise _RefusedError(f"the checksum of its record {broken!r} is wrong")
        _check_pickle(io.BytesIO(archive.read(objects[0])))


def _check_legacy(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pickles = io.BytesIO(content[:_MAX_PICKLE])
    for _ in range(_LEGACY_PICKLES):
        _check_pickle(pickles)


def _check_pickle(file: BinaryIO) -> None:
    """Raises _RefusedError if a pickle names a class or a function that weights do not need."""
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
            raise _RefusedError(f"it has the pickle operation {operation.name}, which PyTorch does not write")
        if operation.name == "GLOBAL" and not _KNOWN.fullmatch(str(argument)):
            raise _RefusedError(f"it contains {'.'.join(str(argument).split())[:100]!r}")
